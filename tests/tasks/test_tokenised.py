"""A split in a file: the features that `encode` gives, and nothing that is not whole."""

import errno
import random
from pathlib import Path

import pyarrow
import pytest

from prunedlora.tasks import tokenised
from prunedlora.tasks.example import Example
from prunedlora.tasks.task import Features, Shortened
from prunedlora.tasks.tokenised import BrokenTokensError, TokenisedSplit, lengths_of, read_tokens, write_tokens


class Numbers:
    """A task whose tokens of an example are the numbers in its prompt."""

    def encode(self, examples: list[Example], *, prompts: bool = True) -> list[Features]:
        return [
            Features(
                ids := [int(n) for n in e.prompt.split()],
                [len(e.prompt)],
                Shortened(len(e.prompt) % 3),
                e,
                ids[::-1] if prompts and len(e.prompt) % 2 else None,
            )
            for e in examples
        ]


EXAMPLES = [
    Example(" ".join(str(random.Random(i).randrange(300_000)) for _ in range(1 + i * 7 % 12)), "x") for i in range(23)
]
FEATURES = Numbers().encode(EXAMPLES)


@pytest.fixture(params=[5, 23, 1024], ids="PART {}".format)
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tokenised, "PART", request.param)
    write_tokens(tmp_path / "x.arrow", Numbers(), EXAMPLES, prompts=True)  # type: ignore[arg-type]
    return tmp_path / "x.arrow"


def test_it_is_the_list_that_was_written(path: Path) -> None:
    split = read_tokens(path, 23, EXAMPLES)
    assert list(split) == FEATURES
    assert [split[-1], split[7], len(split)] == [FEATURES[-1], FEATURES[7], 23]
    assert list(lengths_of(split)) == lengths_of(FEATURES)
    assert split.num_truncated == sum(feature.shortened != Shortened.NOT for feature in FEATURES)
    assert split.num_at_turns == sum(feature.shortened == Shortened.AT_TURNS for feature in FEATURES) > 0
    with pytest.raises(IndexError):
        split[23]
    assert all(type(number) is int for feature in split for number in (*feature.input_ids, *feature.targets))


@pytest.mark.parametrize(
    "part", [slice(4), slice(None), slice(1, None, 3), slice(None, None, -1), slice(20, 99), slice(5, 5)]
)
def test_a_slice_is_the_slice_of_the_list(path: Path, part: slice) -> None:
    split, features = read_tokens(path, 23, EXAMPLES)[part], FEATURES[part]
    assert isinstance(split, TokenisedSplit)
    assert list(split) == features
    assert list(split[1::2]) == features[1::2]
    assert list(lengths_of(split)) == lengths_of(features)
    assert split.num_truncated == sum(feature.shortened != Shortened.NOT for feature in features)


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
    with pytest.raises(
        BrokenTokensError, match=r"has other columns than \['input_ids', 'targets', 'prompt_ids', 'shortened'\]"
    ):
        read_tokens(path, 23)


def test_a_full_disk_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_tokens(Path("/dev/full"), Numbers(), EXAMPLES, prompts=True)  # type: ignore[arg-type]


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
