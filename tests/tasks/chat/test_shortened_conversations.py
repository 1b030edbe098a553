"""Conversations that are too long lose their oldest exchanges; tokens only where one exchange is too long by itself."""

import copy

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


def test_the_longest_text_of_an_exchange_that_is_too_long_loses_its_beginning() -> None:
    """Its turns stay turns, and the system prompt stays."""
    for system in ("", "Be kind."):
        example = talk("gone " * 9, "1.", "start " + "word " * 30 + "end", "Rome.", system=system or None)
        for family in ("chatml", "own_system", "thinking"):
            features = made(family, example, max_length=80)
            assert features.shortened is Shortened.IN_TEXT
            assert 70 <= len(features.input_ids) <= 80
            text, rest = shown(tokenizer_of(family), features), "word end<|im_end|>\n<|im_start|>assistant\n"
            assert text.startswith("<|im_start|>system\n" if system or family == "own_system" else "<|im_start|>user\n")
            assert system in text
            assert text.count("<|im_start|>user\n") == 1
            assert "gone" not in text
            assert "start " not in text
            assert rest in text
            assert features.target_ids[-1] == tokenizer_of(family).convert_tokens_to_ids("<|im_end|>")
            asked = tokenizer_of(family).decode(features.prompt_ids)
            assert text.startswith(asked)
    long = talk("word " * 9, "1.", "word " * 30 + "end", "Rome.", system="kind " * 40)
    text = shown(tokenizer_of("chatml"), made("chatml", long, max_length=60))
    assert text.startswith("<|im_start|>system\n")
    assert "word end<|im_end|>\n<|im_start|>assistant\n⟦Rome.<|im_end|>⟧" in text


def test_a_beginning_that_opens_turns_is_not_kept_by_itself() -> None:
    tokenizer = copy.deepcopy(tokenizer_of("chatml"))
    tokenizer.bos_token = "<|im_start|>"
    (features,) = task_over(tokenizer, talk("a b c d e f", "Rome."), max_length=9).encode(
        [talk("a b c d e f", "Rome.")]
    )
    ids = tokenizer("assistant\nRome.<|im_end|>\n")["input_ids"]
    assert features.input_ids == ids
    assert len(ids) == 9


def test_an_exchange_of_which_little_fits_loses_the_beginning_of_its_prompt() -> None:
    example = talk("gone " * 9, "1.", "word " * 30 + "end", "Rome.", system="Be kind.")
    features = made("llama3", example, max_length=30)
    tokenizer = tokenizer_of("llama3")
    assert features.shortened is Shortened.IN_TEXT
    assert len(features.input_ids) == 30
    text = shown(tokenizer, features)
    assert text.endswith("end<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n⟦Rome.<|eot_id|>⟧")
    assert "kind" not in text
    assert len(features.prompt_ids) <= 29
    assert features.prompt_ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(features.prompt_ids).endswith("assistant<|end_header_id|>\n\n")


@pytest.mark.parametrize("limit", [40, 60])
def test_an_answer_that_is_too_long_loses_its_end_and_not_its_question(limit: int) -> None:
    example = talk("a", "word " * 80)
    whole = made("chatml", example)
    for prompts in (True, False):
        (features,) = task_over("chatml", example, max_length=limit).encode([example], prompts=prompts)
        assert features.shortened is Shortened.IN_TEXT
        assert features.input_ids == whole.input_ids[:limit]
        assert features.targets == [whole.targets[0], limit]
        assert features.prompt_ids == (whole.prompt_ids if prompts else None)


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
