"""What is shown is what the model reads: the runs' texts together are the tokens decoded, wherever a border is."""

from itertools import combinations
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prunedlora.sweep.trained_text import Piece, decoded, runs_of
from tests.tiny import WORDS, minilm_folder


@pytest.fixture(scope="module")
def decoder() -> PreTrainedTokenizerBase:
    """Byte-level: a character that is no ASCII is several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


@pytest.mark.parametrize("text", ["alpha 日本 🦜 stone\n\n x", "river<end>gamma <end>", " \t "])
def test_runs_together_are_the_text(decoder: PreTrainedTokenizerBase, text: str) -> None:
    """Characters of several tokens among it, with every span of it trained."""
    ids = decoder(text)["input_ids"]
    assert decoded(ids, decoder) == text
    for begin, end in combinations(range(len(ids) + 1), 2):
        runs = runs_of(ids, [(begin, end)], decoder)
        assert "".join(run.text for run in runs) == text
        assert [run.is_trained for run in runs] == [False] * (begin > 0) + [True] + [False] * (end < len(ids))


def test_a_space_before_a_word_is_in_the_run_of_its_token() -> None:
    """Of a tokenizer whose decoder puts spaces between words."""
    tokenizer = AutoTokenizer.from_pretrained(Path(minilm_folder()))
    ids = tokenizer("river playings")["input_ids"]
    runs = runs_of(ids, [(2, 4)], tokenizer)
    assert [run.text for run in runs] == ["[CLS] river", " playings", " [SEP]"]
    assert [run.is_trained for run in runs] == [False, True, False]


def test_text_that_spells_a_special_token_is_none(decoder: PreTrainedTokenizerBase) -> None:
    spelt = decoder("alpha<end>", split_special_tokens=True)["input_ids"]
    (run,) = runs_of([*spelt, decoder.eos_token_id], [], decoder)
    assert run.pieces == (Piece("alpha<end>", is_special=False), Piece("<end>", is_special=True))


def test_spans_that_are_apart(decoder: PreTrainedTokenizerBase) -> None:
    ids = [number for word in ("alpha", " beta", " gamma") for number in decoder(word)["input_ids"]]
    ends = [len(decoder(text)["input_ids"]) for text in ("alpha", " beta", " gamma")]
    runs = runs_of(ids, [(0, ends[0]), (ends[0] + ends[1], sum(ends))], decoder)
    assert [(run.text, run.is_trained) for run in runs] == [("alpha", True), (" beta", False), (" gamma", True)]
