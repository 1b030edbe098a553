"""Answers of the board, in whichever process asks for them: the driver, a proxy, a worker of a slot."""

from typing import Any

import ray
from ray.exceptions import RayError

from prunedlora.trial.outside_error import OutsideError


class BoardLostError(OutsideError):
    """The board, its node or Ray itself is gone; the message has Ray's reason."""


def answer(question: Any) -> Any:
    """What the board answers to a call of one of its methods, `answer(board.take.remote(slot, seconds))`.

    Raises BoardLostError in the place of any of Ray's errors, so that nobody else has to know them.
    """
    try:
        return ray.get(question)
    except RayError as error:
        raise BoardLostError(f"{type(error).__name__}: {error}") from error
