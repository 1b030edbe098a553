"""Ray's errors at the board, as the rest of the package sees them."""

import os

import pytest
import ray

from prunedlora.fleet.answers import BoardLostError, answer
from prunedlora.trial.outside_error import OutsideError


@ray.remote(num_cpus=0)
class Talker:
    def say(self, word: str) -> str:
        if word == "no":
            raise ValueError("not that word")
        return word

    def die(self) -> None:
        os._exit(1)


def test_answers_and_errors(shared_ray: None) -> None:
    """A lost actor is trouble around a trial, and so is a method that fails."""
    talker = Talker.remote()
    assert answer(talker.say.remote("yes")) == "yes"
    with pytest.raises(BoardLostError, match="not that word"):
        answer(talker.say.remote("no"))
    with pytest.raises(OutsideError, match="ActorDiedError"):
        answer(talker.die.remote())
