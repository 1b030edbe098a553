"""What is trained of a conversation: the assistant's turns, each to the token that ends it, in every family."""

from dataclasses import replace
from pathlib import Path

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example, Segment
from prunedlora.tasks.tokenised import read_tokens, write_tokens
from tests.tasks.chat.chat_families import ENDING, FAMILIES, talk, tokenizer_of
from tests.tasks.chat.shown import read, shown, task_over

FOUR = talk("What is the capital?", "Paris is.", "And of Italy?", "Rome.")
EXPECTED = {
    "chatml": "<|im_start|>user\nWhat is the capital?<|im_end|>\n<|im_start|>assistant\n⟦Paris is.<|im_end|>⟧\n"
    "<|im_start|>user\nAnd of Italy?<|im_end|>\n<|im_start|>assistant\n⟦Rome.<|im_end|>⟧\n",
    "own_system": "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nWhat is the capital?<|im_end|>\n"
    "<|im_start|>assistant\n⟦Paris is.<|im_end|>⟧\n<|im_start|>user\nAnd of Italy?<|im_end|>\n<|im_start|>assistant\n"
    "⟦Rome.<|im_end|>⟧\n",
    "thinking": "<|im_start|>user\nWhat is the capital?<|im_end|>\n<|im_start|>assistant\n⟦Paris is.<|im_end|>⟧\n"
    "<|im_start|>user\nAnd of Italy?<|im_end|>\n<|im_start|>assistant\n⟦<think>\n\n</think>\n\nRome.<|im_end|>⟧\n",
    "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is the capital?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦Paris is.<|eot_id|>⟧<|start_header_id|>user<|end_header_id|>"
    "\n\nAnd of Italy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n⟦Rome.<|eot_id|>⟧",
    "gemma": "<bos><start_of_turn>user\nWhat is the capital?<end_of_turn>\n<start_of_turn>model\n"
    "⟦Paris is.<end_of_turn>⟧\n<start_of_turn>user\nAnd of Italy?<end_of_turn>\n<start_of_turn>model\n"
    "⟦Rome.<end_of_turn>⟧\n",
    "mistral": "<s>[INST] What is the capital? [/INST]⟦ Paris is.</s>⟧[INST] And of Italy? [/INST]⟦ Rome.</s>⟧",
    "zephyr": "<|user|>\nWhat is the capital?</s>\n<|assistant|>\n⟦Paris is.</s>⟧\n<|user|>\nAnd of Italy?</s>\n"
    "<|assistant|>\n⟦Rome.</s>⟧\n",
    "phi3": "<|user|>\nWhat is the capital?<|end|>\n<|assistant|>\n⟦Paris is.<|end|>⟧\n<|user|>\nAnd of Italy?<|end|>\n"
    "<|assistant|>\n⟦Rome.<|end|>⟧\n<|endoftext|>",
    "channels": "<|start|>user<|message|>What is the capital?<|end|><|start|>assistant⟦<|channel|>final<|message|>"
    "Paris is.<|end|>⟧<|start|>user<|message|>And of Italy?<|end|><|start|>assistant⟦<|channel|>final<|message|>Rome."
    "<|return|>⟧",
}
EXPECTED["calls"] = EXPECTED["marked"] = EXPECTED["chatml"]


@pytest.mark.parametrize("family", ENDING)
def test_the_assistants_turns_are_trained_to_their_ends(family: str) -> None:
    """None of them with the generation prompt or the white space behind; Qwen's own system prompt, thoughts that
    earlier turns lose, ends of turns that are not the end of the text, and no second beginning of the text."""
    assert read(family, FOUR) == EXPECTED[family]
    first, second = EXPECTED[family].split("⟧")[0].replace("⟦", ""), "⟦" + EXPECTED[family].split("⟦")[2]
    assert read(family, FOUR, train_on="last").startswith(first)
    assert read(family, FOUR, train_on="last").endswith(second)
    assert read(family, FOUR, train_on="last").count("⟦") == 1


@pytest.mark.parametrize("family", ENDING)
def test_tokens_are_those_of_the_whole_text(family: str) -> None:
    tokenizer = tokenizer_of(family)
    (features,) = task_over(family, FOUR).encode([FOUR])
    messages = [dict(message) for message in FOUR.conversation.messages]
    assert features.input_ids == tokenizer.apply_chat_template(messages, return_dict=False)
    assert features.prompt_ids == tokenizer.apply_chat_template(
        messages[:-1], add_generation_prompt=True, return_dict=False
    )
    assert task_over(family, FOUR).encode([FOUR], prompts=False)[0] == replace(features, prompt_ids=None)
    if (begin := tokenizer.bos_token_id) is not None and family != "zephyr":
        assert features.input_ids.count(begin) == 1


def test_a_file_of_tokens_keeps_prompts_and_spans(tmp_path: Path) -> None:
    examples = [FOUR, talk("a", "b", num_prompt=1), Example("", "c", segments=(Segment("c", True),))]
    task = task_over("thinking", *examples)
    write_tokens(tmp_path / "tokens", task, examples, prompts=True)
    assert list(read_tokens(tmp_path / "tokens", 3, examples)) == task.encode(examples)


def test_thoughts_of_the_last_turn_are_trained_and_those_of_earlier_ones_are_not_there() -> None:
    example = talk("a?", "<think>\nfirst\n</think>\n\nParis.", "b?", "<think>\nsecond\n</think>\n\nRome.")
    assert read("thinking", example) == (
        "<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n⟦Paris.<|im_end|>⟧\n<|im_start|>user\nb?<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\nsecond\n</think>\n\nRome.<|im_end|>⟧\n"
    )


def test_options_reach_the_template_and_those_of_the_row_win() -> None:
    task = task_over("thinking", FOUR, options={"enable_thinking": False})
    tokenizer = tokenizer_of("thinking")
    (features,) = task.encode([FOUR])
    assert tokenizer.decode(features.prompt_ids).endswith("assistant\n<think>\n\n</think>\n\n")
    assert shown(tokenizer, features).endswith("<think>\n\n</think>\n\n⟦Rome.<|im_end|>⟧\n")
    own = replace(FOUR, conversation=replace(FOUR.conversation, options={"enable_thinking": True}))
    assert tokenizer.decode(task.encode([own])[0].prompt_ids).endswith("assistant\n")


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris", "days": 3}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALLING = Example(
    "p", "t", place="row 3",
    conversation=Conversation(
        (
            {"role": "user", "content": "What weather?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "22"}, {"role": "assistant", "content": "It is 22."},
            {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "No."},
        ),
        tools=(TOOL,),
    ),
)  # fmt: skip


def test_tools_and_calls_are_written_and_calls_are_trained() -> None:
    text = read("calls", CALLING)
    assert text.startswith('<|im_start|>system\n[{"type": "function", "function": {"name": "weather"')
    assert '⟦<tool_call>weather{"city": "Paris", "days": 3}</tool_call><|im_end|>⟧\n<|im_start|>tool\n22' in text
    assert text.count("⟦") == 3


def test_a_call_in_an_earlier_turn_of_a_thinking_template_is_found_by_words() -> None:
    example = replace(CALLING, conversation=replace(CALLING.conversation, tools=None))
    assert "assistant\n⟦<tool_call>weather</tool_call><|im_end|>⟧\n<|im_start|>tool" in read("thinking", example)


def test_so_it_is_where_the_prompt_has_more_than_the_whole() -> None:
    """A generation prompt with an empty thought, which earlier turns do not have."""
    example = replace(CALLING, conversation=replace(CALLING.conversation, tools=None))
    text = read("thinking", example, options={"enable_thinking": False})
    assert "assistant\n⟦<tool_call>weather</tool_call><|im_end|>⟧\n<|im_start|>tool\n22" in text
    assert "assistant\n⟦It is 22.<|im_end|>⟧" in text


def test_what_a_template_would_leave_out_is_refused() -> None:
    with pytest.raises(DataError, match=r"^row 3: it has tools, and the tokenizer's chat template writes none; take"):
        task_over("chatml", CALLING)
    without = replace(CALLING, conversation=replace(CALLING.conversation, tools=None))
    with pytest.raises(
        DataError, match="row 3: a message has tool_calls, which the tokenizer's chat template does not"
    ):
        task_over("chatml", without)
    thought = {"role": "assistant", "content": "b", "reasoning_content": "so"}
    example = Example("p", "t", conversation=Conversation(({"role": "user", "content": "a"}, thought)), place="row 1")
    with pytest.raises(DataError, match="row 1: a message has reasoning_content"):
        task_over("chatml", example)


def test_a_system_prompt_that_the_template_refuses() -> None:
    example = talk("a", "b", system="Be kind.")
    with pytest.raises(
        DataError,
        match=r"'chats.jsonl', row 7: the tokenizer's chat template refuses the conversation \(system, user, "
        r"assistant\): 'System role not supported'; change these rows to what it takes, or give",
    ):
        task_over("gemma", example)
    for family in (name for name in ENDING if FAMILIES[name].system):
        assert "Be kind." in read(family, example)


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_turns_that_do_not_alternate_are_refused_in_the_templates_words(family: str) -> None:
    messages = ({"role": "user", "content": "a"}, {"role": "user", "content": "b"})
    example = Example(
        "p", "t", conversation=Conversation((*messages, {"role": "assistant", "content": "c"})), place="x"
    )
    with pytest.raises(DataError, match=r"x: .* refuses the conversation \(user, user, assistant\): '.*must alternate"):
        task_over(family, example)


def test_messages_that_a_template_cannot_read() -> None:
    messages = ({"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]})
    example = Example("p", "t", conversation=Conversation(messages), place="x")
    with pytest.raises(DataError, match=r"x: the tokenizer's chat template refuses .*TypeError"):
        task_over("chatml", example)


def test_a_template_whose_turns_do_not_end_is_refused() -> None:
    for train_on in ("assistant", "last", "all", None):
        with pytest.raises(DataError, match="no token of the tokenizer ends the assistant's turn 'assistant: Rome"):
            task_over("endless", talk("a", "Rome."), train_on=train_on)
    tokenizer = tokenizer_of("endless")
    assert tokenizer.chat_template


def test_a_turn_that_cannot_be_found_is_refused(tmp_path: Path) -> None:
    """A template that writes a message by its length, and the last one otherwise."""
    file = tmp_path / "odd.jinja"
    file.write_text(
        "{% for m in messages %}{{ m.role ~ (m.content | length) ~ loop.last ~ m.content + '<|im_end|>' }}{% endfor %}"
    )
    with pytest.raises(DataError, match=r"row 7: the assistant's turn \(message 3\) cannot be found in what"):
        task_over("chatml", FOUR, template=str(file))
    file.write_text("{% for m in messages %}{{ loop.last ~ m.role ~ '<|im_end|>' }}{% endfor %}")
    with pytest.raises(DataError, match="cannot be found"):
        task_over("chatml", FOUR, template=str(file))


def test_consecutive_turns_of_the_assistant_and_a_first_one() -> None:
    roles = ("assistant", "user", "assistant", "assistant")
    messages = tuple({"role": role, "content": f"{n}."} for n, role in enumerate(roles))
    example = Example("p", "t", conversation=Conversation(messages))
    assert read("chatml", example) == (
        "<|im_start|>assistant\n⟦0.<|im_end|>⟧\n<|im_start|>user\n1.<|im_end|>\n<|im_start|>assistant\n"
        "⟦2.<|im_end|>⟧\n<|im_start|>assistant\n⟦3.<|im_end|>⟧\n"
    )


def test_a_prompt_and_completion_of_conversations_is_trained_behind_the_prompt() -> None:
    example = talk("a", "b", "c", "d", num_prompt=3)
    text = read("chatml", example)
    assert text.endswith("c<|im_end|>\n<|im_start|>assistant\n⟦d<|im_end|>\n⟧")
    assert text.count("⟦") == 1
    assert read("chatml", example, train_on="completion") == text
    assert read("chatml", example, train_on="assistant").count("⟦") == 2
    assert read("chatml", example, train_on="all").startswith("<|im_start|>⟦user\na<|im_end|>")
    with pytest.raises(DataError, match=r"row 7: data.train_on completion is for rows that part prompt and completion"):
        task_over("chatml", talk("a", "b"), train_on="completion")


def test_an_empty_answer_is_trained_to_end() -> None:
    assert read("chatml", talk("a", "")).endswith("assistant\n⟦<|im_end|>⟧\n")


def test_nothing_trained_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "marked.jinja"
    file.write_text(FAMILIES["marked"].template.replace("m.role == 'assistant'", "m.role == 'tool'"))
    with pytest.raises(DataError, match="row 7: the chat template marks nothing of it"):
        task_over("chatml", FOUR, template=str(file))
