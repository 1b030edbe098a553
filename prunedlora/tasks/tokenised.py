"""A split in tokens, memory-mapped: one Arrow file, written part by part, read by any number of processes at once.

Resident are 4 bytes a token, once for all processes, and nothing that the garbage collector walks; as lists of Python's
own numbers it is some 40 bytes for each of them. Through pyarrow itself: the datasets library keeps the same format,
and takes 0.35-2.5 ms for the 32 examples of a step that are 0.07 ms here.
"""

import operator
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow  # type: ignore[import-untyped]

from prunedlora.tasks.example import Example
from prunedlora.tasks.task import Features, Shortened, Task

PART = 1024
"""Examples that are tokenised at once; so many lie in each record batch of a file, fewer in the last."""
_IDS = pyarrow.large_list(pyarrow.int32())
SCHEMA = pyarrow.schema([("input_ids", _IDS), ("targets", _IDS), ("prompt_ids", _IDS), ("shortened", pyarrow.uint8())])
"""No prompt_ids: an empty row, since no prompt is empty that is not the beginning of `input_ids`."""
CHECKSUM = "crc32"


class BrokenTokensError(ValueError):
    """A file of tokens that is not whole, or another one than was asked for."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The examples of one record batch, as views of the file."""

    ids: np.ndarray
    """(tokens,) int32, one example behind the other."""
    id_ends: np.ndarray
    """(examples + 1,) int64: example i has ids[id_ends[i] : id_ends[i + 1]]."""
    targets: np.ndarray
    target_ends: np.ndarray
    prompt_ids: np.ndarray
    prompt_ends: np.ndarray
    shortened: np.ndarray
    """(examples,) uint8, values of Shortened."""

    def checksum(self) -> str:
        """Over all numbers."""
        views = (
            self.ids, self.id_ends, self.targets, self.target_ends, self.prompt_ids, self.prompt_ends, self.shortened
        )  # fmt: skip
        crc = 0
        for view in views:
            crc = zlib.crc32(view.data, crc)
        return str(crc)


class TokenisedSplit(Sequence[Features]):
    """The features of a split's examples, each made when it is asked for. A slice is a view and copies nothing."""

    def __init__(
        self, parts: Sequence[_Part], rows: range, lengths: np.ndarray, shortened: np.ndarray, texts: Sequence[Example]
    ) -> None:
        """`rows`: which examples of the file, in their order; `lengths` and `shortened` are theirs; `texts`: all
        examples of the file, or none."""
        self._parts = parts
        self._rows = rows
        self._texts = texts
        self.lengths = lengths
        """(examples,) int64: tokens of each, known without reading it."""
        self._shortened = shortened

    @property
    def num_truncated(self) -> int:
        """Examples that lost tokens to keep within the limit."""
        return int((self._shortened != Shortened.NOT).sum())

    @property
    def num_at_turns(self) -> int:
        """Those among them that lost whole turns of a conversation and nothing else."""
        return int((self._shortened == Shortened.AT_TURNS).sum())

    @property
    def trained_lengths(self) -> np.ndarray:
        """(examples,) int64, of generation: tokens of each that are to be predicted."""
        every = []
        for part in self._parts:
            ends = np.concatenate([[0], np.cumsum(part.targets[1::2] - part.targets[::2], dtype=np.int64)])
            every.append(ends[part.target_ends[1:] // 2] - ends[part.target_ends[:-1] // 2])
        return _joined(every, np.int64)[list(self._rows)]

    @property
    def largest_id(self) -> int:
        """Of all tokens in the file; -1 where there are none."""
        rows = (ids for part in self._parts for ids in (part.ids, part.prompt_ids))
        return max((int(ids.max()) for ids in rows if ids.size), default=-1)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Features: ...
    @overload
    def __getitem__(self, index: slice) -> "TokenisedSplit": ...
    def __getitem__(self, index: int | slice) -> "Features | TokenisedSplit":
        if isinstance(index, slice):
            return TokenisedSplit(
                self._parts, self._rows[index], self.lengths[index], self._shortened[index], self._texts
            )
        row = self._rows[operator.index(index)]
        number, i = divmod(row, PART)
        part = self._parts[number]
        return Features(
            part.ids[part.id_ends[i] : part.id_ends[i + 1]].tolist(),
            part.targets[part.target_ends[i] : part.target_ends[i + 1]].tolist(),
            Shortened(int(part.shortened[i])),
            self._texts[row] if self._texts else None,
            part.prompt_ids[part.prompt_ends[i] : part.prompt_ends[i + 1]].tolist() or None,
        )


def length_of(features: Sequence[Features], index: int) -> int:
    """Tokens of one of them."""
    if isinstance(features, TokenisedSplit):
        return int(features.lengths[index])
    return len(features[index].input_ids)


def lengths_of(features: Sequence[Features]) -> Sequence[int]:
    """Tokens of each."""
    if isinstance(features, TokenisedSplit):
        lengths: list[int] = features.lengths.tolist()
        return lengths
    return [len(feature.input_ids) for feature in features]


def write_tokens(path: Path, task: Task, examples: Sequence[Example], *, prompts: bool) -> None:
    """Writes the features of these examples to a new file. `prompts`: as for `task.encode`.

    Raises DataError as `task.encode`, and OSError where it cannot be written.
    """
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, SCHEMA) as writer:
        for start in range(0, len(examples), PART):
            batch = _batch(task.encode(examples[start : start + PART], prompts=prompts))
            writer.write_batch(batch, custom_metadata={CHECKSUM: _part(batch).checksum()})


def read_tokens(path: Path, num_examples: int, texts: Sequence[Example] = ()) -> TokenisedSplit:
    """The features in a file that `write_tokens` wrote. `texts`: the examples themselves, where they will be needed.

    The file may be removed at any time after. Raises BrokenTokensError for one that is not whole or has not
    `num_examples`, OSError where it cannot be read.
    """
    try:
        reader = pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
        if reader.schema != SCHEMA:
            raise BrokenTokensError(f"{path} has other columns than {SCHEMA.names}")
        parts = list(_parts(reader, path))
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; Arrow's own have no number
            raise
        raise BrokenTokensError(f"{path} is no whole Arrow file: {error}") from error
    found = [len(part.shortened) for part in parts]
    if sum(found) != num_examples or any(size != PART for size in found[:-1]):
        raise BrokenTokensError(f"{path} has {sum(found)} examples, not {num_examples}")
    lengths = _joined([np.diff(part.id_ends) for part in parts], np.int64)
    shortened = _joined([part.shortened for part in parts], np.uint8)
    return TokenisedSplit(parts, range(num_examples), lengths, shortened, texts)


def _joined(views: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *views])


def _parts(reader: Any, path: Path) -> Iterator[_Part]:
    for number in range(reader.num_record_batches):
        batch, metadata = reader.get_batch_with_custom_metadata(number)
        batch.validate(full=True)
        part = _part(batch)
        if (metadata or {}).get(CHECKSUM) != part.checksum().encode():
            raise BrokenTokensError(f"{path}: the checksum of part {number} is not that of its numbers")
        yield part


def _batch(features: Sequence[Features]) -> Any:
    columns = [
        pyarrow.array([feature.input_ids for feature in features], _IDS),
        pyarrow.array([feature.targets for feature in features], _IDS),
        pyarrow.array([feature.prompt_ids or [] for feature in features], _IDS),
        pyarrow.array([int(feature.shortened) for feature in features], pyarrow.uint8()),
    ]
    return pyarrow.record_batch(columns, schema=SCHEMA)


def _part(batch: Any) -> _Part:
    ids, targets, prompts, shortened = batch.columns
    return _Part(
        ids.values.to_numpy(),
        ids.offsets.to_numpy(),
        targets.values.to_numpy(),
        targets.offsets.to_numpy(),
        prompts.values.to_numpy(),
        prompts.offsets.to_numpy(),
        shortened.to_numpy(),
    )
