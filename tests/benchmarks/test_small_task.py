"""The small model's task: words to spell backward, and the short ones of them alone."""

import json
from pathlib import Path

from prunedlora.benchmarks.product.small_model import NUM_EXAMPLES, write_task


def test_the_short_words_are_those_of_the_task_in_its_order(tmp_path: Path) -> None:
    write_task(tmp_path)
    all_words, short = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("backward.jsonl", "backward_short.jsonl")
    )
    assert len(all_words) == NUM_EXAMPLES
    assert short == [row for row in all_words if len(row["answer"]) <= 6]
    assert all(row["question"] == f"rev {row['answer'][::-1]}>" for row in short)
