"""Whose chat template it is, which examples it writes out, and settings that would have no effect."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example, Segment
from tests.tasks.chat.chat_families import FAMILIES, talk, tokenizer_of
from tests.tasks.chat.shown import read, shown, task_over

PLAIN = Example("What is the capital?", " Paris")


def test_a_file_takes_the_place_of_the_tokenizers_own(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(FAMILIES["marked"].template.replace("<|im_start|>", "<|endoftext|>"))
    text = "<|endoftext|>user\na<|im_end|>\n<|endoftext|>assistant\n⟦b<|im_end|>⟧\n"
    assert read("chatml", talk("a", "b"), template=str(file)) == text


def test_files_that_are_no_templates(tmp_path: Path) -> None:
    file = tmp_path / "broken.jinja"
    file.write_text("{% for m in messages %}\n{{ m.content }\n{% endfor %}")
    with pytest.raises(DataError, match=r"^chat template '.*broken\.jinja', line 2: unexpected '}'$"):
        task_over("chatml", talk("a", "b"), template=str(file))
    with pytest.raises(DataError, match=r"data.chat_template '.*missing\.jinja' cannot be read: .*No such file"):
        task_over("chatml", talk("a", "b"), template=str(tmp_path / "missing.jinja"))


def test_a_tokenizer_without_a_template(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    for template in (None, "tokenizer"):
        with pytest.raises(
            DataError, match=r"has no chat template for the conversations of the data: give data.chat_t"
        ):
            task_over(byte_tokenizer, talk("a", "b"), template=template)
    (features,) = task_over(byte_tokenizer, talk("a", "b"), template="none").encode([talk("a", "b")])
    assert shown(byte_tokenizer, features) == "a\n⟦b<end>⟧"


def test_a_template_asked_for_by_name_writes_plain_examples_out() -> None:
    assert read("chatml", PLAIN) == "What is the capital?⟦ Paris<|im_end|>⟧"
    assert read("chatml", PLAIN, template="tokenizer").endswith(
        "capital?<|im_end|>\n<|im_start|>assistant\n⟦ Paris<|im_end|>⟧\n"
    )
    literal = Example("<|im_start|>a", "b", prompt_literals=("<|im_start|>",))
    with pytest.raises(DataError, match=r"the prompt's template of train holds special tokens, and data.chat_template"):
        task_over("chatml", literal, template="tokenizer")


def test_a_sources_system_prompt_begins_plain_examples_that_are_written_out() -> None:
    told = replace(PLAIN, system="Be brief.", place="row 2")
    text = read("chatml", told, template="tokenizer")
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat")
    for template in (None, "none"):
        with pytest.raises(DataError, match="row 2: the source's system prompt has no effect on plain text: give data"):
            task_over("chatml", told, template=template)


def test_conversations_as_plain_text() -> None:
    example = talk("a\n", "b", "c", " d", system="Be kind.")
    assert read("chatml", example, template="none") == "Be kind.\na\n\nb\nc\n⟦ d<|im_end|>⟧"
    tools = Example(
        "p",
        "t",
        conversation=Conversation(({"role": "tool", "content": "x"}, *talk("a", "b").conversation.messages)),
        place="row 2",
    )
    with pytest.raises(
        DataError, match=r"row 2: data.chat_template none reads conversations as plain text, and it has t"
    ):
        task_over("chatml", tools, template="none")
    parts = ({"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"})
    with pytest.raises(DataError, match="a message of it has no text as its content: give tokenizer or a file"):
        task_over("chatml", Example("p", "t", conversation=Conversation(parts)), template="none")


def test_settings_without_effect() -> None:
    with pytest.raises(DataError, match=r"data\.train_on has no effect: no example is written out by a chat template"):
        task_over("chatml", PLAIN, train_on="last")
    with pytest.raises(DataError, match=r"data\.chat_template_kwargs has no effect: no example"):
        task_over("chatml", talk("a", "b"), template="none", options={"x": 1})
    segments = Example("", "a", segments=(Segment("a", True),))
    with pytest.raises(DataError, match=r"data\.chat_template has no effect: no example"):
        task_over("chatml", segments, template="tokenizer")
    with pytest.raises(DataError, match=r"chat_template_kwargs has no effect: .* does not read 'enable_thinkin'"):
        task_over("thinking", talk("a", "b"), options={"enable_thinkin": False})
    with pytest.raises(DataError, match="chat_template_kwargs cannot set 'messages'"):
        task_over("thinking", talk("a", "b"), options={"messages": []})
    own = Example("p", "t", conversation=Conversation(talk("a", "b").conversation.messages, options={"tools": []}))
    with pytest.raises(DataError, match="chat_template_kwargs cannot set 'tools'"):
        task_over("thinking", own)


def test_what_decides_the_features_is_in_the_encoding(tmp_path: Path) -> None:
    example, file = talk("a", "b"), tmp_path / "own.jinja"
    file.write_text(FAMILIES["thinking"].template)
    tasks = [
        task_over("chatml", example), task_over("chatml", example, train_on="last"),
        task_over("chatml", example, template=str(file)), task_over("chatml", example, template="none"),
        task_over("chatml", example, template=str(file), options={"enable_thinking": False}),
    ]  # fmt: skip
    found = [task.encoding for task in tasks]
    assert all(one != other for n, one in enumerate(found) for other in found[:n])
    assert task_over("chatml", example).encoding == found[0]
    file.write_text("{# now #}" + FAMILIES["thinking"].template)
    assert task_over("chatml", example, template=str(file)).encoding != found[2]
    assert tasks[3].encoding["chat"] == "none"
    assert task_over("chatml", PLAIN).encoding["chat"] is None


def test_a_template_that_asks_for_the_date_has_it_in_the_encoding(tmp_path: Path) -> None:
    """It writes other texts tomorrow: tokens kept from today are not those."""
    file = tmp_path / "dated.jinja"
    file.write_text("{{ strftime_now('%Y') }}" + FAMILIES["chatml"].template)
    dates = [
        task_over("chatml", talk("a", "b"), template=template).encoding["chat"]["template"]["date"]
        for template in (str(file), "tokenizer")
    ]
    assert dates[0] is not None
    assert dates[1] is None


def test_a_tokenizer_may_have_a_template_for_tools() -> None:
    tokenizer = copy.copy(tokenizer_of("calls"))
    tokenizer.chat_template = {"default": FAMILIES["chatml"].template, "tool_use": FAMILIES["calls"].template}
    plain = talk("a", "b")
    tools = ({"type": "function", "function": {"name": "f"}},)
    with_tools = replace(plain, conversation=replace(plain.conversation, tools=tools))
    task = task_over(tokenizer, plain, with_tools)
    texts = [tokenizer.decode(features.input_ids) for features in task.encode([plain, with_tools])]
    assert ['"name": "f"' in text for text in texts] == [False, True]


def test_examples_of_several_kinds_keep_their_order() -> None:
    examples = [PLAIN, talk("a", "b"), Example("", "c", segments=(Segment("c", True),)), PLAIN]
    task = task_over("chatml", *examples)
    texts = [shown(tokenizer_of("chatml"), features) for features in task.encode(examples)]
    assert [text.count("im_start") for text in texts] == [0, 2, 0, 0]
    assert task.encode([]) == []
