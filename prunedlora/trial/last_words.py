"""What ranks have to say that cannot go on: files in the trial's folder `failures`, kept until the trial's record.

A rank that fails alone cannot write the record, and the others only see that it is gone. What the next attempt must do
without, or must not try again, is so for those after it too: they may be interrupted, or be another driver's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from prunedlora.results.record import Failure, from_json, to_json
from prunedlora.results.store import Store

FOLDER = "failures"
FAILED, INTERRUPTED, NOT_BEGUN, HARNESS = "failed", "interrupted", "not-begun", "harness"
"""What a rank's words are about: the trial; something outside; the node, before a first step was done;
lm-evaluation-harness at the end of a training."""
VERBS = {
    FAILED: "failed",
    INTERRUPTED: "was interrupted",
    NOT_BEGUN: "was interrupted before its first step",
    HARNESS: "could not measure",
}
NAME = re.compile(r"(\d+)-(\d+)-([a-z-]+)-rank(\d+)\.json")


@dataclass(frozen=True)
class Words:
    """Why a rank could not go on in an attempt."""

    attempt: tuple[int, int]
    """The driver's epoch, and the attempt's number under it."""
    about: str
    rank: int
    failure: Failure


def leave_words(store: Store, key: str, attempt: tuple[int, int], rank: int, failure: Failure, about: str) -> None:
    """Leaves why this rank cannot go on. `attempt`: the driver's epoch, and the attempt's number under it; `about`:
    FAILED, INTERRUPTED, NOT_BEGUN or HARNESS."""
    name = f"{attempt[0]}-{attempt[1]}-{about}-rank{rank}.json"
    store.storage.write_text(store.trial_path(key, FOLDER, name), to_json(failure))


def words_left(store: Store, key: str) -> list[Words]:
    """All words since the trial's last record, by attempt and rank."""
    found = []
    for name in store.storage.names(store.trial_path(key, FOLDER)):
        path = store.trial_path(key, FOLDER, name)
        text = store.storage.read_text(path)
        if (match := NAME.fullmatch(name)) is not None and text is not None:
            epoch, number, about, rank = match.groups()
            failure = from_json(Failure, text, store.storage.uri_of(path))
            found.append(Words((int(epoch), int(number)), about, int(rank), failure))
    return sorted(found, key=lambda words: (words.attempt, words.rank))


def forget_words(store: Store, key: str) -> None:
    """Deletes all words, once there is a record."""
    store.delete_folder(store.trial_path(key, FOLDER))


def rank_that_failed(left: Sequence[Words]) -> Failure | None:
    """The failure of a rank that failed alone, as the trial's; None: no rank says so."""
    words = next((each for each in reversed(left) if each.about == FAILED), None)
    if words is None:
        return None
    message = f"rank {words.rank} failed: {words.failure.type}: {words.failure.message}"
    return words.failure.model_copy(update={"type": "RankFailedError", "message": message})


def attempts_with(left: Sequence[Words], *about: str) -> set[tuple[int, int]]:
    """The attempts in which a rank left words about one of these."""
    return {words.attempt for words in left if words.about in about}


def last_words(left: Sequence[Words], attempt: tuple[int, int]) -> str:
    """What the ranks of an attempt left."""
    for about, verb in VERBS.items():
        words = next((each for each in reversed(left) if each.attempt == attempt and each.about == about), None)
        if words is not None:
            return f"rank {words.rank} {verb}: {words.failure.type}: {words.failure.message}"
    return "its workers left no reason (killed, for memory perhaps, or the storage took none); see their logs"
