"""Conversations that are too long lose their oldest exchanges; tokens only where one exchange is too long by itself."""

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example
from prunedlora.tasks.task import Features, Shortened
from tests.tasks.chat.chat_families import talk, tokenizer_of
from tests.tasks.chat.shown import shown, task_over

LONG = talk("one " * 5, "1.", "two " * 5, "2.", "three " * 5, "3.", system="Be kind.")


def made(family: str, example: Example, **settings: object) -> Features:
    return task_over(family, example, **settings).encode([example])[0]


def size(example: Example, family: str = "chatml") -> int:
    return len(made(family, example).input_ids)


def test_the_oldest_exchanges_go_and_the_system_prompt_stays() -> None:
    whole = size(LONG)
    two = talk("two " * 5, "2.", "three " * 5, "3.", system="Be kind.")
    one = talk("three " * 5, "3.", system="Be kind.")
    assert made("chatml", LONG, max_length=whole).shortened is Shortened.NOT
    for limit, rest in ((whole - 1, two), (size(two), two), (size(two) - 1, one), (size(one), one)):
        features = made("chatml", LONG, max_length=limit)
        expected = made("chatml", rest)
        assert features.shortened is Shortened.AT_TURNS
        assert features.input_ids == expected.input_ids
        assert features.targets == expected.targets
        assert features.prompt_ids == expected.prompt_ids
        assert features.example is LONG


def test_what_is_kept_begins_with_a_user() -> None:
    """Strict templates take nothing else, and a tool's answer belongs to its call."""
    roles = ("user", "assistant", "tool", "assistant", "user", "assistant")
    messages = tuple({"role": role, "content": f"{role} {n} " * 3} for n, role in enumerate(roles))
    example = Example("p", "t", conversation=Conversation(messages))
    features = made("chatml", example, max_length=size(example) - 1)
    assert tokenizer_of("chatml").decode(features.input_ids).startswith("<|im_start|>user\nuser 4")
    strict = talk("a " * 9, "b", "c", "d")
    assert made("gemma", strict, max_length=size(strict, "gemma") - 1).shortened is Shortened.AT_TURNS


def test_prompts_leave_room_for_what_is_generated() -> None:
    prompt = len(made("chatml", LONG).prompt_ids)
    settings = {"metric": "exact_match", "max_new_tokens": 40}
    fits = made("chatml", LONG, max_length=prompt + 40, **settings)
    assert fits.shortened is Shortened.NOT
    for prompts in (True, False):
        task = task_over("chatml", LONG, max_length=prompt + 39, **settings)
        (features,) = task.encode([LONG], prompts=prompts)
        assert features.shortened is Shortened.AT_TURNS
        assert tokenizer_of("chatml").decode(features.input_ids).count("one") == 0


def test_an_exchange_that_is_too_long_loses_the_beginning_of_its_prompt() -> None:
    example = talk("gone " * 9, "1.", "word " * 30 + "end", "Rome.", system="Be kind.")
    features = made("llama3", example, max_length=30)
    tokenizer = tokenizer_of("llama3")
    assert features.shortened is Shortened.IN_TEXT
    assert len(features.input_ids) == 30
    text = shown(tokenizer, features)
    assert text.startswith("<|begin_of_text|>")
    assert text.endswith("end<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n⟦Rome.<|eot_id|>⟧")
    assert "kind" not in text
    assert len(features.prompt_ids) <= 29
    assert features.prompt_ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(features.prompt_ids).endswith("assistant<|end_header_id|>\n\n")


def test_an_answer_that_is_too_long_loses_its_end() -> None:
    example = talk("a", "word " * 40)
    features = made("chatml", example, max_length=20)
    assert features.shortened is Shortened.IN_TEXT
    assert len(features.input_ids) == 20
    assert features.targets == [1, 20]
    assert tokenizer_of("chatml").eos_token_id not in features.target_ids


def test_a_prompt_of_generation_is_cut_to_leave_room() -> None:
    example = talk("word " * 40, "b")
    features = made("chatml", example, max_length=30, metric="exact_match", max_new_tokens=12)
    assert len(features.prompt_ids) == 18
    assert len(features.input_ids) - len(features.target_ids) <= 18 + 1  # white space behind the turn is not trained
    assert features.shortened is Shortened.IN_TEXT


def test_a_completion_keeps_its_turns() -> None:
    example = talk("a " * 9, "b", "c " * 9, "d", "e", "f", num_prompt=3)
    features = made("chatml", example, max_length=size(example) - 1)
    text = shown(tokenizer_of("chatml"), features)
    assert text.startswith("<|im_start|>user\nc c")
    assert text.endswith(
        "assistant\n⟦d<|im_end|>\n<|im_start|>user\ne<|im_end|>\n<|im_start|>assistant\nf<|im_end|>\n⟧"
    )
    with pytest.raises(DataError, match="leaves no room for a prompt"):
        made("chatml", example, max_length=1)
