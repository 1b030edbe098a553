"""Special tokens that the messages spell are text; those of the template are special."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.chat.chat_tokens import ChatTokens, Rendered, Tokens
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example
from tests.tasks.chat.chat_families import ENDING, FAMILIES, metaspace_tokenizer, talk, tokenizer_of
from tests.tasks.chat.shown import shown, task_over

TALKS = [
    talk("What is the capital?", "Paris is.", "And of Italy?", "Rome."),
    talk("  two  spaces ", "\n\nnew\nlines\n", "日本 naïve 🙂", "<think> [INST] x"),
    talk("", "a", "b", ""),
]
TOKENIZERS = [*(tokenizer_of(name) for name in ENDING), metaspace_tokenizer("mistral"), metaspace_tokenizer("gemma")]


def texts_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    options: dict[str, Any] = {"tokenize": False}
    return [tokenizer.apply_chat_template(list(e.conversation.messages), **options) for e in TALKS]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_piece_by_piece_is_as_a_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    """Where the messages spell no special token: each piece between two special tokens tokenised by itself as text."""
    reader = ChatTokens(tokenizer)
    for text in texts_of(tokenizer):
        whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        expected = Tokens(whole["input_ids"], whole["offset_mapping"])
        assert reader.piecewise(text, lambda piece: piece) == expected
        ids: list[int] = []
        for (begin, end), (first, last) in reader._pieces(text, expected, lambda piece: piece):
            piece = text[begin:end]
            known = expected.ids[first:last]
            ids += known if known and known[0] in reader.special else reader._as_text(piece, known, piece).ids
        assert ids == expected.ids


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_spelt_special_tokens_are_text(tokenizer: PreTrainedTokenizerBase) -> None:
    names = [tokenizer.convert_ids_to_tokens(token) for token in sorted(ChatTokens(tokenizer).special)]
    for name in names:
        says = [f"{name}", f" a {name} b{name}.", f"x{names[0]}{name}", f"{name} so {names[-1]}."]
        example = talk(*says)
        plain = talk(*[said.replace("<", "{").replace("[", "(") for said in says])
        task = task_over(tokenizer, example)
        (features,) = task.encode([example])
        reader = ChatTokens(tokenizer)
        count = sum(token in reader.special for token in features.input_ids)
        (other,) = task_over(tokenizer, plain).encode([plain])
        assert count == sum(token in reader.special for token in other.input_ids)
        expected = tokenizer.apply_chat_template(list(example.conversation.messages), tokenize=False)
        decoded = tokenizer.decode(features.input_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert decoded.replace(" ", "") == expected.replace(" ", "")  # some write a space before a text
        assert len(features.spans) == 2
        (prompt,) = ([token for token in features.prompt_ids if token in reader.special],)
        assert prompt == [token for token in other.prompt_ids if token in reader.special]


def test_spelt_tokens_in_every_place_a_template_reads() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"<|im_end|>": "<|im_start|>"}}}
    messages = (
        {"role": "system", "content": "<|im_end|>"}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "<|im_start|>user"},
        {"role": "assistant", "content": "b"},
    )  # fmt: skip
    tools = ({"type": "function", "function": {"name": "f", "description": "ends in <|im_end|>"}},)
    example = Example("p", "t", conversation=Conversation(messages, tools=tools))
    (features,) = task_over("calls", example).encode([example])
    tokenizer = tokenizer_of("calls")
    assert features.input_ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 6
    assert features.input_ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 6
    assert "⟦<tool_call>f" in shown(tokenizer, features)


def test_trained_spans_end_at_the_templates_own_token() -> None:
    example = talk("a", "say <|im_end|>.", "b", "<|im_end|>.")
    (features,) = task_over("chatml", example).encode([example])
    tokenizer = tokenizer_of("chatml")
    end = tokenizer.eos_token_id
    assert [features.input_ids[e - 1] for _, e in features.spans] == [end, end]
    assert features.target_ids.count(end) == 2
    assert tokenizer.decode(features.target_ids) == "say <|im_end|>.<|im_end|><|im_end|>.<|im_end|>"


def test_answers_that_end_in_what_ends_them_are_refused() -> None:
    for said in ("yes<|im_end|>", "yes<|endoftext|>\n"):
        with pytest.raises(
            DataError, match=r"row 7: a turn of the assistant ends in '<\|\w+\|>', which ends every turn"
        ):
            task_over("own_system", talk("a", said, "b", "c"))
    with pytest.raises(DataError, match=r"a turn of the assistant ends in '<\|im_end\|>'"):
        task_over("chatml", Example("a", "yes<|im_end|>"), template="tokenizer")


def test_many_spelt_tokens_take_time_in_proportion() -> None:
    """Each of their names is sought once in the text, for a word that is not in it."""
    sought: list[str] = []

    class Text(str):
        __slots__ = ()

        def __contains__(self, key: str) -> bool:
            sought.append(key)
            return str.__contains__(self, key)

    example = talk("<|im_end|><|im_start|> " * 50, "b")
    tokenizer = tokenizer_of("chatml")
    text = Text(tokenizer.apply_chat_template(list(example.conversation.messages), tokenize=False))

    def again(other: Conversation) -> str:
        return str(tokenizer.apply_chat_template(list(other.messages), tokenize=False))

    ChatTokens(tokenizer).read(Rendered(text, example.conversation, again))
    assert len(sought) == 2


def test_a_template_that_changes_spelt_tokens_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "changing.jinja"
    file.write_text(FAMILIES["chatml"].template.replace("m.content", "m.content.replace('im_end', 'end')"))
    with pytest.raises(
        DataError, match=r"row 7: its messages spell special tokens of the tokenizer \('<\|im_end\|>'\)"
    ):
        task_over("chatml", talk("<|im_end|>", "b"), template=str(file))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        name_or_path = "slow"

    with pytest.raises(DataError, match=r"tokenizer 'slow' \(Slow\) does not say where in a text its tokens lie"):
        ChatTokens(Slow())  # type: ignore[arg-type]


def test_words_in_place_of_tokens_are_in_no_text() -> None:
    example = talk("Zq0xQz <|im_end|>", "Zq0turnQz Zq1xQz <|im_start|>", "c", "d")
    (features,) = task_over("thinking", example).encode([example])
    text = tokenizer_of("thinking").decode(features.input_ids)
    assert "user\nZq0xQz <|im_end|><|im_end|>" in text
    assert "assistant\nZq0turnQz Zq1xQz <|im_start|><|im_end|>" in text
    assert len(features.spans) == 2
