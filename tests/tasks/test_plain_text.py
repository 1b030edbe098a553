"""What the data spell is text; special tokens come from the tokenizer and from the prompt's template."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.generation import Generation
from prunedlora.tasks.plain_text import PlainText, special_ids
from prunedlora.tasks.sources import Source, load_examples
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.text_classification import TextClassification

SPELT = [("river<end>stone", " cloud"), ("<end>", " a<end>b"), ("house", " <end> 12"), ("plain", " text")]


def names(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(ids))


@pytest.fixture
def make_task(
    make_splits: Callable[..., Splits], byte_tokenizer: PreTrainedTokenizerBase
) -> Callable[..., tuple[Generation, Splits]]:
    def make(pairs: list[tuple[str, str]], **settings: Any) -> tuple[Generation, Splits]:
        splits = make_splits(pairs)
        return Generation.from_splits(splits, byte_tokenizer, **{"metric": "loss", **settings}), splits

    return make


def test_an_answer_ends_once_and_at_its_end(
    make_task: Callable[..., tuple[Generation, Splits]], byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    task, splits = make_task(SPELT)
    end = byte_tokenizer.eos_token_id
    for feature, (prompt, answer) in zip(task.encode(splits.train), SPELT, strict=True):
        assert feature.input_ids.count(end) == 1
        assert feature.input_ids[-1] == feature.target_ids[-1] == end
        assert byte_tokenizer.decode(feature.input_ids[:-1]) == prompt + answer


def test_texts_without_special_tokens_are_tokenised_as_ever(
    minilm_tokenizer: PreTrainedTokenizerBase, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    texts = ["Jayden is married.", "", " 4 - 1 < 7 [x] <y>", "日本 naïve"]
    for tokenizer in (minilm_tokenizer, byte_tokenizer):
        for add in (False, True):
            plain = PlainText(tokenizer, add_special_tokens=add)
            assert plain.ids(texts, [()] * 4) == tokenizer(texts, add_special_tokens=add)["input_ids"]


@pytest.mark.parametrize("max_length", [None, 8])
def test_classes_are_told_from_text_too(
    make_splits: Callable[..., Splits], minilm_tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> None:
    text = "river [SEP] stone [MASK] [CLS]"
    splits = make_splits([(text, "a"), ("river", "b")])
    task = TextClassification.from_splits(splits, minilm_tokenizer, metric="accuracy", max_length=max_length)
    found = names(minilm_tokenizer, task.encode(splits.train)[0].input_ids)
    assert (found[0], found[-1]) == ("[CLS]", "[SEP]")
    assert not {"[CLS]", "[SEP]", "[MASK]"} & set(found[1:-1])
    assert found[1:7] == ["river", "[", "sep", "]", "stone", "["]
    assert max_length is None or len(found) == max_length


def test_the_templates_own_special_tokens_stay(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase, minilm_tokenizer: PreTrainedTokenizerBase
) -> None:
    """A pair of sentences on an encoder, a conversation on a decoder: the configuration writes their marks out."""
    rows = [{"a": "river", "b": "stone", "y": "0"}, {"a": "house [SEP] x", "b": "cloud", "y": "1"}]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    examples = load_examples(Source(str(tmp_path / "d.json"), "{a} [SEP] {b}", "{y}"), 0)
    one, two = sorted(examples, key=lambda example: example.target)
    task = TextClassification(["0", "1"], minilm_tokenizer, None)
    assert names(minilm_tokenizer, task.encode([one])[0].input_ids) == ["[CLS]", "river", "[SEP]", "stone", "[SEP]"]
    with pytest.raises(
        DataError, match=r"cannot be told from those that the data spell \('\[SEP\]'\).*house \[SEP\] x"
    ):
        task.encode([one, two])
    doubled = load_examples(Source(str(tmp_path / "d.json"), "[CLS] {b}", "{y}"), 0)
    with pytest.raises(DataError, match="begins or ends with a special token that the tokenizer adds"):
        task.encode(doubled)
    spoken = load_examples(Source(str(tmp_path / "d.json"), "{b}<end>", "{y}"), 0)
    (prompt, *_) = Generation(byte_tokenizer, "loss", None, None).encode(spoken)
    assert prompt.input_ids.count(byte_tokenizer.eos_token_id) == 2  # the template's, and the answer's


def test_a_beginning_of_text_that_the_tokenizer_puts_is_not_the_templates() -> None:
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "x": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="?")
    task = Generation(whole, "loss", None, None)
    assert task.encode([Example("x", "x")])[0].input_ids == [0, 2, 2, 1]
    with pytest.raises(DataError, match="begins with '<s>', which the tokenizer puts there itself"):
        task.encode([Example("<s> x", "x", prompt_literals=("<s> ",))])


def test_a_tokenizer_that_cannot_read_it_as_text_refuses_it() -> None:
    """A Unigram model has its end-of-text token among its pieces."""
    pieces = [("?", 0.0), ("</s>", 0.0), ("<", -3.0), ("/", -3.0), ("s", -3.0), (">", -3.0), ("a", -3.0)]
    whole = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.Unigram(pieces, 0)), eos_token="</s>", unk_token="?"
    )
    plain = PlainText(whole, add_special_tokens=False)
    assert plain.ids(["a<s>a", "b"], [(), ()]) == [[6, 2, 4, 5, 6], [0]]
    with pytest.raises(DataError, match=r"cannot read '</s>' as plain text, take it out of the data: 'a</s>a'"):
        plain.ids(["a", "a</s>a"], [(), ()])


def test_a_template_with_the_unknown_token_is_refused(minilm_tokenizer: PreTrainedTokenizerBase) -> None:
    plain = PlainText(minilm_tokenizer, add_special_tokens=True)
    with pytest.raises(DataError, match=r"the template holds the tokenizer's unknown token '\[UNK\]'"):
        plain.ids(["a [UNK] b"], [("a [UNK] ",)])
    assert len(plain.ids(["a [UNK] b"], [()])[0]) > 5


def test_the_unknown_token_is_special_where_it_means_more(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    """As in GPT-2, whose unknown token is its end-of-text token."""
    assert special_ids(byte_tokenizer) == {byte_tokenizer.eos_token_id}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer.backend_tokenizer, eos_token="<end>", unk_token="<end>"
    )
    assert special_ids(tokenizer) == {tokenizer.eos_token_id}


@pytest.mark.parametrize("target", ["72<end>", "72<end>\n", " a <end> "])
def test_a_target_that_ends_in_the_end_of_text_is_refused(
    target: str, make_task: Callable[..., tuple[Generation, Splits]]
) -> None:
    with pytest.raises(DataError, match=r"a target of train ends in the end-of-text token '<end>', which every answer"):
        make_task([("a", "1"), ("b", target)])


def test_a_target_template_with_special_tokens_is_refused(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    (tmp_path / "d.json").write_text(json.dumps([{"a": "river", "y": "1"}]))
    examples = tuple(load_examples(Source(str(tmp_path / "d.json"), "{a}", "A<end>{y}"), 0))
    splits = Splits(examples, examples, examples, num_duplicates_removed={}, fingerprint="")
    with pytest.raises(DataError, match=r"the target's template of train holds special tokens \('<end>'\)"):
        Generation.from_splits(splits, byte_tokenizer, metric="loss")


@pytest.mark.parametrize("metric", ["exact_match", "final_number"])
def test_a_right_answer_scores(
    metric: str, make_task: Callable[..., tuple[Generation, Splits]], llama: LlamaForCausalLM,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A model that writes the very tokens it is taught, and then some, is right on every example."""
    pairs = [("q1", " a<end>b 1"), ("q2", " <end> 12"), ("q3", "7")]
    task, splits = make_task(pairs, metric=metric, max_new_tokens=20)
    features = task.encode(splits.train)

    def write(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        width = max(len(feature.target_ids) for feature in features)
        end = features[0].target_ids[-1]
        rows = [feature.target_ids + [end] * (width - len(feature.target_ids)) for feature in features]
        order = sorted(range(3), key=lambda index: -len(features[index].input_ids))
        return torch.cat([input_ids, torch.tensor([rows[index] for index in order])], dim=1)

    monkeypatch.setattr(llama, "generate", write)
    assert task.evaluate(llama, features, 3, "cpu").scores == {metric: [1, 1, 1]}


def test_a_word_twice_at_the_end_is_no_doubled_special_token() -> None:
    """Of a tokenizer that puts a token at the beginning only."""
    words = {word: index for index, word in enumerate(["<s>", "<unk>", "<sep>", "no", "cat"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", unk_token="<unk>", sep_token="<sep>")
    plain = PlainText(tokenizer, add_special_tokens=True)
    assert plain.ids(["cat <sep> no no"], [(" <sep> ",)]) == [[0, 4, 2, 3, 3]]
    assert plain.ids(["cat <sep> <sep>"], [(" <sep> <sep>",)]) == [[0, 4, 2, 2]]
    with pytest.raises(DataError, match="begins or ends with a special token that the tokenizer adds"):
        plain.ids(["<s> cat"], [("<s> ",)])
