"""Tokenizers that write spaces with words (as GPT-2's), digits apart (Llama 3's), a space of their own (Llama 2's)."""

from collections.abc import Callable

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prunedlora.benchmarks.product.small_model import character_tokenizer
from prunedlora.tasks.borders import border_warning
from prunedlora.tasks.example import Example

WORDS = ["son", "daughter", "mother", "father", "river"]
CORPUS = [f"Question: who is the {word}? Answer: {word} 72 and -4 or 105." for word in WORDS] * 3


def trained(tokenizer: Tokenizer) -> PreTrainedTokenizerBase:
    trainer = trainers.BpeTrainer(
        vocab_size=500, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module")
def spaces_with_words() -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return trained(tokenizer)


@pytest.fixture(scope="module")
def digits_apart() -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(use_regex=False, add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return trained(tokenizer)


@pytest.fixture(scope="module")
def own_space() -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, special_tokens=["<unk>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=True, prepend_scheme="never")
    tokenizer.train_from_iterator([*CORPUS, "▁▁"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def examples(prompt: str, target: str, answers: list[str]) -> list[Example]:
    return [Example(prompt.format(q=f"who is the {word}?"), target.format(a=word)) for word in answers]


Warn = Callable[[PreTrainedTokenizerBase, str, str, list[str]], str | None]


@pytest.fixture
def warn() -> Warn:
    def warning(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str, answers: list[str]) -> str | None:
        return border_warning(prompt, target, examples(prompt, target, answers), tokenizer)

    return warning


NUMBERS = ["72", "105", "4"]


def test_a_space_at_the_end_of_a_prompt(spaces_with_words: PreTrainedTokenizerBase, warn: Warn) -> None:
    for answers in (WORDS, NUMBERS):
        found = warn(spaces_with_words, "Question: {q}\nAnswer: ", "{a}", answers)
        assert found is not None
        assert (
            f" of {len(answers)} examples prompt 'Question: {{q}}\\nAnswer: ' and target '{{a}}' do not meet" in found
        )
        assert "the prompt ends in white space, which is part of the next word's token" in found
        assert found.endswith("; write them as 'Question: {q}\\nAnswer:' and ' {a}'")
        assert warn(spaces_with_words, "Question: {q}\nAnswer:", " {a}", answers) is None


def test_a_space_that_is_a_token_of_its_own_may_end_a_prompt(digits_apart: PreTrainedTokenizerBase, warn: Warn) -> None:
    assert warn(digits_apart, "Answer: ", "{a}", NUMBERS) is None
    assert "write them as 'Answer:' and ' {a}'" in str(warn(digits_apart, "Answer: ", "{a}", WORDS))
    characters = character_tokenizer()
    for answers in (WORDS, NUMBERS):
        assert warn(characters, "Answer: ", "{a}", answers) is None
        assert warn(characters, "Answer:", "{a}", answers) is None


def test_no_space_at_all(
    spaces_with_words: PreTrainedTokenizerBase, digits_apart: PreTrainedTokenizerBase, warn: Warn
) -> None:
    found = warn(spaces_with_words, "Answer:", "{a}", WORDS)
    assert found == (
        "no white space parts prompt 'Answer:' and target '{a}': the model reads '…Answer:son…', in 5 of 5 examples; "
        "write the target as ' {a}'"
    )
    assert warn(digits_apart, "Answer:", "{a}", WORDS) is not None
    assert warn(digits_apart, "Answer:", "{a}", NUMBERS) is None
    for fine in ("Answer:\n", "Answer =", "<answer>"):
        assert warn(spaces_with_words, fine, "{a}", WORDS) is None


def test_a_tokenizer_that_begins_with_a_space_itself(own_space: PreTrainedTokenizerBase, warn: Warn) -> None:
    """What would be right for the others is a second space here."""
    assert warn(own_space, "Answer:", "{a}", WORDS) is None
    for prompt, target in (("Answer: ", "{a}"), ("Answer:", " {a}")):
        assert "write them as 'Answer:' and '{a}'" in str(warn(own_space, prompt, target, WORDS))


def test_a_few_examples_are_no_reason(spaces_with_words: PreTrainedTokenizerBase, warn: Warn) -> None:
    few = [*(Example("Answer:", f" {word}") for word in WORDS * 4), Example("Answer: ", "son")]
    assert border_warning("Answer:", " {a}", few, spaces_with_words) is None


def test_rows_that_have_both_texts_are_to_change_their_white_space(spaces_with_words: PreTrainedTokenizerBase) -> None:
    said = {
        (
            "Answer:",
            "{a}",
        ): "no white space parts prompt and completion of the rows: the model reads '…Answer:mother…', in "
        "4 of 4 examples; begin each completion with a space",
        ("Answer: ", "{a}"): "in 4 of 4 examples prompt and completion of the rows do not meet in tokens that the "
        "tokenizer makes of a running text: the prompt ends in white space, which is part of the next word's token; "
        "take the space off the end of each prompt and put it at the beginning of its completion",
    }
    for (prompt, target), expected in said.items():
        rows = examples(prompt, target, ["mother", "father", "son", "river"])
        assert border_warning(None, None, rows, spaces_with_words) == expected
        found = border_warning("{q}", "{a}", rows, spaces_with_words)
        if prompt.endswith(" "):  # templates that have no white space at the border cannot mend it
            assert found is not None
            assert found.endswith(
                "; take the space off the end of each prompt and put it at the beginning of its completion"
            )
