import copy

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from prunedlora.tasks.tokenizer_identity import tokenizer_identity


def test_a_tokenizer_is_what_it_does_and_not_where_it_was(
    minilm: str, minilm_tokenizer: PreTrainedTokenizerBase, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    again = AutoTokenizer.from_pretrained(minilm)
    first = tokenizer_identity(again)
    again("a text", truncation=True, max_length=3)  # leaves a truncation behind
    assert tokenizer_identity(again) == first == tokenizer_identity(minilm_tokenizer)
    assert tokenizer_identity(byte_tokenizer)["class"] != first["class"]


def test_what_changes_tokens_changes_it(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    more = copy.deepcopy(byte_tokenizer)
    more.add_tokens(["river"])
    special = copy.deepcopy(byte_tokenizer)
    special.add_special_tokens({"additional_special_tokens": ["<new>"]})
    left = copy.deepcopy(byte_tokenizer)
    left.truncation_side = "left"
    found = [str(tokenizer_identity(tokenizer)) for tokenizer in (byte_tokenizer, more, special, left)]
    assert len(set(found)) == 4
