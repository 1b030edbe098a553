"""Answers in conversations: where they stop, and what they are compared with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example
from prunedlora.tasks.generation import Generation
from prunedlora.tasks.scoring import exact_match
from prunedlora.tasks.task import Features
from tests.tasks.chat.chat_families import ENDING, FAMILIES, metaspace_tokenizer, talk, tokenizer_of
from tests.tasks.chat.shown import task_over

GENERATING = {"metric": "exact_match", "max_new_tokens": 60}
TALKS = [
    talk("What is the capital?", "Paris is.", "And of Italy?", " Rome \n"),
    talk("a", "first\n\n  second <|im_end|> </s> [/INST] third"),
]


class Learnt(nn.Module):
    """Writes what is trained of the last turn, then goes on to write, where it is not stopped."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        begin, end = features.spans[-1]
        self.writes = [*features.input_ids[begin:end], *features.input_ids[:4]]
        self.generation_config = GenerationConfig()

    def generate(self, input_ids: Tensor, **_: Any) -> Tensor:
        ends = self.generation_config.eos_token_id
        written = next((self.writes[: n + 1] for n, token in enumerate(self.writes) if token in ends), self.writes)
        return torch.tensor([[*row, *written] for row in input_ids.tolist()])


@pytest.mark.parametrize("train_on", ["assistant", "last"])
@pytest.mark.parametrize("family", ENDING)
def test_a_model_that_writes_what_is_trained_is_right(family: str, train_on: str) -> None:
    for example in TALKS:
        task = task_over(family, example, train_on=train_on, **GENERATING)
        (features,) = task.encode([example])
        (answer,) = task.generate(Learnt(features), [features], "cpu")
        scored = task.scored(example)
        assert exact_match(answer, scored)
        assert scored.target == scored.target.strip()
        assert example.target.strip() in scored.target
        assert scored.conversation is example.conversation


def test_so_it_is_with_a_tokenizer_that_writes_spaces_before_texts() -> None:
    task = task_over(metaspace_tokenizer("mistral"), *TALKS, **GENERATING)
    for features in task.encode(TALKS):
        (answer,) = task.generate(Learnt(features), [features], "cpu")
        assert exact_match(answer, task.scored(features.example))


def test_the_target_is_what_the_template_makes_of_the_turn() -> None:
    example = talk("a", "<think>\nso\n</think>\n\nRome.")
    task = task_over("thinking", example, **GENERATING)
    assert task.scored(example).target == "<think>\nso\n</think>\n\nRome."
    plain = talk("a", "Rome.")
    assert task.scored(plain).target == "<think>\n\n</think>\n\nRome."
    assert (
        task_over("thinking", plain, options={"enable_thinking": False}, **GENERATING).scored(plain).target == "Rome."
    )


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ("chatml", ("<|im_end|>",)), ("own_system", ("<|endoftext|>", "<|im_end|>")),
        ("llama3", ("<|end_of_text|>", "<|eot_id|>")), ("gemma", ("<eos>", "<end_of_turn>")), ("zephyr", ("</s>",)),
        ("phi3", ("<|endoftext|>", "<|end|>")), ("channels", ("<|return|>", "<|end|>")), ("marked", ("<|im_end|>",)),
    ],
)  # fmt: skip
def test_answers_end_at_the_ends_of_turns(family: str, ends: tuple[str, ...]) -> None:
    task = task_over(family, TALKS[0], **GENERATING)
    assert task.ends == ends
    tokens = tokenizer_of(family).convert_tokens_to_ids(list(ends))
    model = Learnt(task.encode(TALKS[:1])[0])
    assert set(tokens) == set(task._greedy(model).eos_token_id)


def test_the_ends_of_every_kind_of_turn_are_known() -> None:
    """One row in many whose turns end otherwise."""
    template = FAMILIES["chatml"].template.replace(
        "m.content + '<|im_end|>\n'", "m.content + ('<|endoftext|>' if m.get('name') else '<|im_end|>') + '\n'"
    )
    tokenizer = tokenizer_of("chatml")
    other = talk("a", "b")
    other.conversation.messages[1]["name"] = "x"
    examples = [*(talk(f"{n}", "b") for n in range(50)), other]
    tokenizer.chat_template, before = template, tokenizer.chat_template
    try:
        assert task_over(tokenizer, *examples).ends == ("<|im_end|>", "<|endoftext|>")
    finally:
        tokenizer.chat_template = before


def test_so_it_is_of_marked_turns(tmp_path: Path) -> None:
    """Marks with their ends and without; ends of calls, which a tool's answer follows."""
    roles = ("user", "assistant", "tool", "assistant")
    messages = tuple({"role": role, "content": "x"} for role in roles)
    example = Example("p", "t", conversation=Conversation(messages))
    end = "{{ '<|im_end|>' if loop.last else '<|endoftext|>' }}"
    for inside, outside in ((end, ""), ("", end)):
        file = tmp_path / "marks.jinja"
        file.write_text(
            "{% for m in messages %}{{ '<|im_start|>' + m.role }}{% if m.role == 'assistant' %}{% generation %}"
            "{{ m.content }}" + inside + "{% endgeneration %}" + outside + "{% else %}{{ m.content }}{% endif %}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
        )
        task = task_over("chatml", example, template=str(file), **GENERATING)
        assert task.ends == ("<|im_end|>", "<|endoftext|>")
        assert task.scored(example).target == "x"


def test_an_end_that_is_no_special_token_is_no_part_of_an_answer() -> None:
    """Here a call's end ends the turn, as an added token that decoding keeps."""
    tokenizer = tokenizer_of("calls")
    tokenizer.chat_template, before = (
        FAMILIES["chatml"].template.replace("<|im_end|>", "</tool_call>"),
        (tokenizer.chat_template),
    )
    try:
        example = talk("a", "Rome.")
        task = task_over(tokenizer, example, **GENERATING)
        (features,) = task.encode([example])
        assert task.ends == ("<|im_end|>", "</tool_call>")
        assert task.generate(Learnt(features), [features], "cpu") == ["Rome."]
    finally:
        tokenizer.chat_template = before


def test_plain_examples_end_as_ever() -> None:
    task: Generation = task_over("chatml", Example("a", "b"), **GENERATING)
    assert task.ends == ("<|im_end|>",)
    assert task.scored(Example("a", " b ")).target == " b "


def test_what_cannot_be_scored_is_refused_by_what_the_template_writes() -> None:
    with pytest.raises(DataError, match="a target of validation has one of them inside"):
        task_over("thinking", TALKS[0], stop=["</think>"], **GENERATING)
    with pytest.raises(DataError, match="metric 'final_number': a target of validation has no final answer: ''"):
        task_over("chatml", talk("a", " "), metric="final_number", max_new_tokens=3)
