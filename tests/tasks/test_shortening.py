"""Tokens cut to a limit."""

import pytest
from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.example import Example, Segment
from prunedlora.tasks.generation import Generation
from prunedlora.tasks.shortening import cut_in_text, prompt_limit
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import Shortened


@pytest.mark.parametrize(
    ("prompt", "answer", "room", "kept"),
    [
        (75, 1000, 0, 75),  # it leaves a quarter
        (76, 1000, 0, 50),
        (90, 10, 0, 90),  # it leaves as much as there is
        (95, 10, 0, 90),
        (1000, 30, 0, 70),
        (75, 1000, 30, 50),
        (75, 10, 60, 40),
        (0, 1000, 0, 0),
    ],
)
def test_what_is_kept_of_a_prompt_of_100_tokens(prompt: int, answer: int, room: int, kept: int) -> None:
    assert prompt_limit(prompt, answer, 100, room) == kept
    ids = list(range(1 + prompt + answer))
    cut = cut_in_text(ids, [1 + prompt, len(ids)], 1 + prompt, 101, room=room, kept=1)
    assert cut.border == 1 + kept
    assert cut.ids[: cut.border] == [0, *range(1 + prompt - kept, 1 + prompt)]
    assert cut.ids[cut.border :] == ids[1 + prompt :][: 100 - kept]
    assert cut.targets == [cut.border, len(cut.ids)]


def test_every_shape_of_example_keeps_its_question(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    """Its answer alone is over the limit."""
    prompt, answer = "What is it?", "word " * 40
    segments = (Segment(prompt, False), Segment(answer, True))
    for example in (Example(prompt, answer), Example(prompt, answer, segments=segments)):
        splits = Splits((example,), (example,), (example,), {}, "")
        task = Generation.from_splits(splits, byte_tokenizer, metric="loss", max_length=30)
        (features,) = task.encode([example])
        assert features.shortened is Shortened.IN_TEXT
        assert len(features.input_ids) == 30
        assert byte_tokenizer.decode(features.input_ids[: features.targets[0]]) == prompt
        assert byte_tokenizer.decode(features.target_ids).startswith("word word")
