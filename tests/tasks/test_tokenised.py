"""A split in a file: the features that `encode` gives, and nothing that is not whole."""

import errno
import random
from pathlib import Path

import pyarrow
import pytest

from prunedlora.tasks import tokenised
from prunedlora.tasks.sources import Example
from prunedlora.tasks.task import Features
from prunedlora.tasks.tokenised import BrokenTokensError, TokenisedSplit, lengths_of, read_tokens, write_tokens


class Numbers:
    """A task whose tokens of an example are the numbers in its prompt."""

    def encode(self, examples: list[Example]) -> list[Features]:
        return [
            Features([int(n) for n in e.prompt.split()], [len(e.prompt)], len(e.prompt) % 3 == 0, e) for e in examples
        ]


EXAMPLES = [
    Example(" ".join(str(random.Random(i).randrange(300_000)) for _ in range(1 + i * 7 % 12)), "x") for i in range(23)
]
FEATURES = Numbers().encode(EXAMPLES)


@pytest.fixture(params=[5, 23, 1024], ids="PART {}".format)
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tokenised, "PART", request.param)
    write_tokens(tmp_path / "x.arrow", Numbers(), EXAMPLES)  # type: ignore[arg-type]
    return tmp_path / "x.arrow"


def test_it_is_the_list_that_was_written(path: Path) -> None:
    split = read_tokens(path, 23, EXAMPLES)
    assert list(split) == FEATURES
    assert [split[-1], split[7], len(split)] == [FEATURES[-1], FEATURES[7], 23]
    assert list(lengths_of(split)) == lengths_of(FEATURES)
    assert split.num_truncated == sum(feature.truncated for feature in FEATURES)
    with pytest.raises(IndexError):
        split[23]
    assert all(type(number) is int for feature in split for number in (*feature.input_ids, *feature.labels))


@pytest.mark.parametrize(
    "part", [slice(4), slice(None), slice(1, None, 3), slice(None, None, -1), slice(20, 99), slice(5, 5)]
)
def test_a_slice_is_the_slice_of_the_list(path: Path, part: slice) -> None:
    split, features = read_tokens(path, 23, EXAMPLES)[part], FEATURES[part]
    assert isinstance(split, TokenisedSplit)
    assert list(split) == features
    assert list(split[1::2]) == features[1::2]
    assert list(lengths_of(split)) == lengths_of(features)
    assert split.num_truncated == sum(feature.truncated for feature in features)


def test_texts_are_there_where_they_are_kept(path: Path) -> None:
    assert {feature.example for feature in read_tokens(path, 23)} == {None}


def test_a_file_that_is_removed_stays_open(path: Path) -> None:
    split = read_tokens(path, 23, EXAMPLES)
    path.unlink()
    assert list(split) == FEATURES


def test_a_file_that_is_not_whole_is_told(path: Path) -> None:
    written = path.read_bytes()
    for content in (b"", b"ARROW1\0\0", written[:-100], written[: len(written) // 2]):
        path.write_bytes(content)
        with pytest.raises(BrokenTokensError, match="is no whole Arrow file"):
            read_tokens(path, 23)
    broken = bytearray(written)
    broken[written.index(FEATURES[0].input_ids[0].to_bytes(4, "little"))] ^= 1
    path.write_bytes(broken)
    with pytest.raises(BrokenTokensError, match="the checksum of part 0 is not that of its numbers"):
        read_tokens(path, 23)
    path.write_bytes(written)
    with pytest.raises(BrokenTokensError, match="has 23 examples, not 22"):
        read_tokens(path, 22)
    schema = pyarrow.schema([("other", pyarrow.int8())])
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, schema):
        pass
    with pytest.raises(BrokenTokensError, match=r"has other columns than \['input_ids', 'labels', 'truncated'\]"):
        read_tokens(path, 23)


def test_a_full_disk_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_tokens(Path("/dev/full"), Numbers(), EXAMPLES)  # type: ignore[arg-type]


def test_no_damage_is_read_or_left_to_whoever_asks(path: Path) -> None:
    """Wherever it is: in numbers, in Arrow's own records, in the checksum. What it hits that means nothing is read."""
    written, rng = path.read_bytes(), random.Random(0)
    told = 0
    for _ in range(600):
        broken = bytearray(written)
        for _ in range(rng.choice([1, 2, 8, 40])):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.unlink()
        path.write_bytes(broken)
        try:
            assert list(read_tokens(path, 23, EXAMPLES)) == FEATURES
        except BrokenTokensError:
            told += 1
    assert told > 400


def test_an_error_of_the_system_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        read_tokens(tmp_path / "nothing.arrow", 1)

    def fail(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pyarrow, "memory_map", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read_tokens(tmp_path, 1)
