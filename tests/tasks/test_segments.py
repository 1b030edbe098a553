"""Texts of which some are trained."""

import copy
from dataclasses import replace
from itertools import chain

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example, Segment
from prunedlora.tasks.generation import Generation
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import Features, Shortened


def row(*parts: tuple[str, bool]) -> Example:
    segments = tuple(Segment(*part) for part in parts)
    last = max((n for n, segment in enumerate(segments) if segment.trained), default=0)
    prompt = "".join(segment.text for segment in segments[:last])
    return Example(prompt, segments[last].text, segments=segments, place="dataset 'rows.jsonl', row 4")


def spelt(*parts: tuple[str, bool], meant: bool) -> Example:
    return replace(row(*parts), special_tokens=meant)


def made(tokenizer: PreTrainedTokenizerBase, example: Example, metric: str = "loss", **settings: int) -> Features:
    splits = Splits((example,), (example,), (example,), {}, "")
    (features,) = Generation.from_splits(splits, tokenizer, metric=metric, **settings).encode([example])
    return features


@pytest.fixture
def beginning(byte_tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer that puts a token at the beginning."""
    assert isinstance(byte_tokenizer, PreTrainedTokenizerFast)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=copy.deepcopy(byte_tokenizer.backend_tokenizer), eos_token="<end>", bos_token="<begin>"
    )
    special = [("<begin>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<begin> $A", special_tokens=special)
    return tokenizer


def test_each_segment_is_tokenised_by_itself(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    parts = (("State", False), (" the child", True), ("ren", True), (" of", False), (" fa", True), ("ther", True))
    pieces = [byte_tokenizer(text)["input_ids"] for text, _ in parts]
    features = made(byte_tokenizer, row(*parts))
    sizes = [len(piece) for piece in pieces]
    total = sum(sizes)
    assert features.input_ids == [*chain(*pieces), byte_tokenizer.eos_token_id]
    assert features.spans == [(sizes[0], sum(sizes[:3])), (sum(sizes[:4]), total + 1)]  # they do not touch
    assert features.prompt_ids == [*chain(*pieces[:5])]
    assert features.input_ids != [
        *byte_tokenizer("".join(text for text, _ in parts))["input_ids"],
        byte_tokenizer.eos_token_id,
    ]


def test_the_end_of_the_text_is_there_where_the_last_is_trained(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    features = made(byte_tokenizer, row(("a", False), ("b", True), ("c", False)))
    assert byte_tokenizer.eos_token_id not in features.input_ids
    assert features.targets == [1, 2]


def test_a_text_is_trained_whole(byte_tokenizer: PreTrainedTokenizerBase, beginning: PreTrainedTokenizerBase) -> None:
    for tokenizer in (byte_tokenizer, beginning):
        features = made(tokenizer, spelt(("The mother <end> of", True), meant=False))
        assert features.input_ids == [
            *tokenizer("", add_special_tokens=True)["input_ids"],
            *tokenizer("The mother <end> of", split_special_tokens=True, add_special_tokens=False)["input_ids"],
            tokenizer.eos_token_id,
        ]
        assert features.targets == [1, len(features.input_ids)]  # nothing predicts the first


def test_special_tokens_that_are_meant(
    byte_tokenizer: PreTrainedTokenizerBase, beginning: PreTrainedTokenizerBase
) -> None:
    end, begin = beginning.eos_token_id, beginning.bos_token_id
    with pytest.raises(
        DataError,
        match=r"row 4: its text spells the special token '<end>' \('of <end> fa'\): give its source special_to",
    ):
        made(beginning, row(("of <end> fa", True)))
    for text, count in (("<begin>a<end>b<end>", 2), ("a<end>b<end>", 2), ("a<end>b", 2), ("a<end>b<end>\n", 3)):
        ids = made(beginning, spelt((text, True), meant=True)).input_ids
        assert (ids[0], ids[-1], ids.count(begin), ids.count(end)) == (begin, end, 1, count)
    example = spelt(("a<end>", False), (" of<end> ", True), ("\n", False), meant=True)
    features = made(byte_tokenizer, example)
    assert byte_tokenizer.decode(features.target_ids) == " of<end> "


def test_answers_to_rows_that_spell_special_tokens_are_scored_as_text(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer = copy.deepcopy(byte_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    example = spelt(("a", False), (" of<turn>\n", True), meant=True)
    splits = Splits((example,), (example,), (example,), {}, "")
    task = Generation.from_splits(splits, tokenizer, metric="exact_match", max_new_tokens=3)
    assert task.scored(example).target == "of"
    assert task.ends == ("<end>", "<turn>")


def test_rows_that_are_not_taught_to_stop_are_warned_of(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    rows = row(("a", False), ("b", True), ("c", False)), row(("a", False), ("b", True))
    rows = (*rows, spelt(("a", False), ("b<end>", True), ("\n", False), meant=True))
    splits = Splits(rows, rows, rows, {}, "")
    task = Generation.from_splits(splits, byte_tokenizer, metric="exact_match", max_new_tokens=3)
    (line,) = task.warnings(rows)
    assert line.startswith("in 1 of 3 rows of segments looked at the last segment is not trained")
    assert list(Generation.from_splits(splits, byte_tokenizer, metric="loss").warnings(rows)) == []


def test_long_rows_lose_the_beginning_of_what_is_before_and_the_end_of_the_last(
    beginning: PreTrainedTokenizerBase,
) -> None:
    example = row(("1 2 3", True), (" 4 5 6", False), (" 7 8", True))
    whole = made(beginning, example)
    size = len(whole.input_ids)
    cut = made(beginning, example, max_length=size - 2)
    assert cut.input_ids == [beginning.bos_token_id, *whole.input_ids[3:]]
    assert cut.spans == [(1, whole.spans[0][1] - 2), (whole.spans[1][0] - 2, size - 2)]
    assert cut.shortened is Shortened.IN_TEXT
    short = made(beginning, example, max_length=3)
    assert short.input_ids == [beginning.bos_token_id, *whole.input_ids[whole.spans[1][0] - 1 :][:2]]
    assert short.spans == [(2, 3)]
    text = row(("1 2 3 4 5", True))
    assert made(beginning, text, max_length=4).input_ids == made(beginning, text).input_ids[:4]
    room = made(beginning, example, "exact_match", max_length=size, max_new_tokens=size - 4)
    assert len(room.prompt_ids) == 4
    assert room.prompt_ids == room.input_ids[:4]


def test_rows_that_cannot_be_trained(
    byte_tokenizer: PreTrainedTokenizerBase, beginning: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(DataError, match=r"'rows.jsonl', row 4: no token of it is trained"):
        made(byte_tokenizer, row(("a", False), ("b", False)))
    with pytest.raises(DataError, match="row 4: a trained segment ends in the end-of-text token '<end>', which is put"):
        made(byte_tokenizer, spelt(("a", False), ("b<end> ", True), meant=False))
    with pytest.raises(DataError, match="row 4: the first segment begins with '<begin>', which the tokenizer puts"):
        made(beginning, spelt(("<begin>a", False), ("b", True), meant=False))
    with pytest.raises(
        DataError, match="metric 'exact_match' asks for answers, and a text of validation has no prompt"
    ):
        made(byte_tokenizer, row(("a", True)), "exact_match", max_new_tokens=3)
