"""A score of the user's own: a function in a Python file, `metrics.py:score`, called as score(answer, example)."""

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from copy import deepcopy
from types import ModuleType
from typing import Any

import numpy as np

from prunedlora.metric_kinds import own_metric
from prunedlora.missing_path import looked_for
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example

TRIED = 50
"""Right answers of a split that are scored before anything is trained, evenly from all of it."""
SHOWN = 80
"""Characters of a text in a message."""
FRAMES = 8
"""The last entries of a traceback that a message has."""
MOST_LINES = 30
MOST_TOLD = 4_000
"""Characters of a traceback in a message, from its end."""
TEXTS = ("prompt", "target")
OF_CONVERSATIONS = ("messages", "tools")
"""Names that the function finds these under, which no column of score_columns may have."""


class OwnScoreError(DataError):
    """A function of the user's own that cannot be had, raises, or gives no score."""


class OwnScore:
    """The function, loaded from its file as a module of its own; nothing is looked for on sys.path by the file's name,
    and no compiled file is read or left."""

    def __init__(self, metric: str) -> None:
        """Raises OwnScoreError: the file is not there or does not run, has no such function, or not one that is called
        with an answer and an example."""
        named = own_metric(metric)
        assert named is not None, metric
        self._file, self._name = named
        self._metric = metric
        module = self._loaded()
        function = getattr(module, self._name, None)
        if not callable(function):
            offered = sorted(name for name, each in vars(module).items() if inspect.isfunction(each))
            raise self._error(
                f"has no function {self._name!r}; there {f'are {offered}' if offered else 'is none'}"
                if function is None
                else f"has under {self._name!r} no function but a {type(function).__name__}"
            )
        self._function: Callable[..., Any] = function
        try:
            inspect.signature(function).bind("answer", {})
        except TypeError as error:
            raise self._error(
                f"{self._name}{inspect.signature(function)} cannot be called with two values, "
                f"{self._name}(answer, example): {error}"
            ) from None

    def __call__(self, answer: str, example: Example) -> float:
        """The score of an answer, from 0 to 1. Answer and texts of the example are as they are, white space at their
        ends included.

        Raises OwnScoreError where the function raises, and for what is no number from 0 to 1.
        """
        try:
            value = self._function(answer, as_mapping(example))
        except KeyboardInterrupt:  # of whoever runs this
            raise
        except BaseException as error:  # GeneratorExit and SystemExit too: a user's code ends no worker
            # Not from the error: an OSError of the user's code, say, is no trouble of the node's.
            raise self._error(f"{self._name} raised on {_shown(answer, example)}\n{_told(error)}") from None
        if isinstance(value, np.generic):  # a number of NumPy's, as its own comparisons and means are
            value = value.item()
        if not isinstance(value, bool | int | float) or not 0 <= value <= 1:  # neither is NaN
            kind = "" if isinstance(value, bool | int | float) else f", a {type(value).__name__}"
            raise self._error(
                f"{self._name} gave {_written(value)}{kind}, on {_shown(answer, example)}; a score is a "
                "number from 0 to 1"
            )
        return float(value)

    def check(self, split: str, examples: Sequence[Example]) -> None:
        """Scores right answers of a split. Raises OwnScoreError as a call does, and where all of them score 0: then
        nothing that is trained to give them could be told from what gives others."""
        some = _evenly(examples)
        scores = [self(example.target, example) for example in some]
        if some and not any(scores):
            raise self._error(
                f"{self._name} gives 0 to the right answer of each of the {len(some)} examples of {split} that were "
                f"tried, so that nothing could score by it; the first: {_shown(some[0].target, some[0])}"
            )

    def _loaded(self) -> ModuleType:
        if not self._file.is_file():
            raise self._error(f"file {str(self._file)!r} does not exist ({looked_for(str(self._file))})")
        source = self._file.read_bytes()
        name = f"prunedlora_own_metric_{hashlib.sha256(source).hexdigest()[:16]}"
        spec = importlib.util.spec_from_loader(name, loader=None, origin=str(self._file))
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__file__ = str(self._file)
        sys.modules[name] = module  # dataclasses and pickle look their module up
        try:
            exec(compile(source, str(self._file), "exec"), vars(module))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            del sys.modules[name]
            alone = " (the file is loaded by itself: files beside it cannot be imported)"
            hint = alone if isinstance(error, ImportError) else ""
            raise self._error(f"the file does not run{hint}\n{_told(error)}") from None
        return module

    def _error(self, what: str) -> OwnScoreError:
        return OwnScoreError(f"evaluation.metric {self._metric!r}: {what}")


def as_mapping(example: Example) -> dict[str, Any]:
    """An example as a function of one's own gets it: `prompt`, `target`, of a conversation `messages` (all of them, the
    last one the right answer's) and `tools`, and the columns of score_columns. All of it, to the last list, is the
    call's own: what the function changes in it the next one does not see.

    Raises DataError for a column of one of these names.
    """
    found: dict[str, Any] = {"prompt": example.prompt, "target": example.target}
    if example.conversation is not None:
        tools = example.conversation.tools
        found["messages"] = [dict(message) for message in example.conversation.messages]
        found["tools"] = None if tools is None else [dict(tool) for tool in tools]
    if taken := sorted(found.keys() & example.columns.keys()):
        raise DataError(
            f"score_columns names {taken[0]!r}, which a function of one's own finds there already "
            f"({', '.join(found)}); leave it out{_at(example)}"
        )
    return deepcopy(found | dict(example.columns))


def _evenly(examples: Sequence[Example]) -> Sequence[Example]:
    """At most TRIED of them."""
    return examples[:: -(-len(examples) // TRIED)] if examples else examples


def _shown(answer: str, example: Example) -> str:
    shortened = answer if len(answer) <= SHOWN else f"{answer[:SHOWN]}…"
    return f"the answer {shortened!r}{_at(example)}"


def _at(example: Example) -> str:
    if example.place:
        return f" ({example.place})"
    return f" (prompt {example.prompt[:SHOWN]!r})" if example.prompt else ""


def _told(error: BaseException) -> str:
    """The last lines of the traceback, from the user's code on."""
    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    told = "".join(traceback.format_exception(type(error), error, frames, limit=-FRAMES)).rstrip()
    end = "\n".join(told.splitlines()[-MOST_LINES:])[-MOST_TOLD:]
    return end if end == told else f"…{end}"


def _written(value: Any) -> str:
    try:
        return repr(value)[:SHOWN]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # code of the user's too
        return f"what cannot be shown (its __repr__ raises {type(error).__name__})"
