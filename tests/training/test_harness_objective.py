"""Which figures of lm-evaluation-harness can be the quality of a sweep, and their scores document by document."""

from collections.abc import Iterator
from typing import Any

import datasets
import pytest

from prunedlora.training.harness import HarnessError
from prunedlora.training.harness_objective import check_objective, check_share_of_one, document_scores
from tests.harness_tasks import GROUP, needs_harness, write_tasks

BLEU = """task: like_bleu
include: word_side.yaml
metric_list: [{metric: acc, aggregation: bleu, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    from lm_eval.tasks import TaskManager

    folder = write_tasks(tmp_path_factory.mktemp("tiny") / "tasks")
    (folder / "words.yaml").write_text(GROUP)
    (folder / "like_bleu.yaml").write_text(BLEU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        # As load_tasks does it, but for the harness's own tasks, which take ten seconds to know.
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        yield manager.load(["words", "like_bleu", "all_text"])


@needs_harness
@pytest.mark.parametrize(
    ("task", "metric"), [("word_side", "acc"), ("first_word", "exact_match,letters"), ("words", "acc")]
)
def test_a_share_that_a_task_or_group_gives(tasks: dict[str, Any], task: str, metric: str) -> None:
    check_objective(tasks, task, metric)


@needs_harness
@pytest.mark.parametrize(
    ("task", "metric", "message"),
    [
        ("word", "acc", "no task 'word'; those that it holds: all_text, first_word, like_bleu, word_side, words"),
        ("word_side", "acc_norm", "'word_side' gives no 'acc_norm', but acc; take acc"),
        ("first_word", "exact_match", "gives no 'exact_match', but exact_match,letters; take exact_match,letters"),
        ("words", "exact_match,letters", "'words' gives no 'exact_match,letters', but acc; take acc"),
        ("all_text", "bits_per_byte", "is better where it is lower, but the quality is maximised .* none of its fig"),
        ("like_bleu", "acc", r"is no share of 1, but the quality is maximised and lies in \[0, 1\]; none of its fig"),
    ],
)
def test_refused(tasks: dict[str, Any], task: str, metric: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        check_objective(tasks, task, metric)


@pytest.mark.parametrize("value", [-0.25, 23.5])
def test_a_value_that_is_no_share_is_refused(value: float) -> None:
    check_share_of_one("harness/x/f1", 1.0)
    with pytest.raises(HarnessError, match=f"harness/x/f1 is {value:g}, no share of 1"):
        check_share_of_one("harness/x/f1", value)


def samples(*scores: Any, filter_name: str = "none") -> list[dict[str, Any]]:
    """As workers leave them: not in the order of the documents."""
    found = [
        {"doc_id": number, "filter": filter_name, "acc": score, "doc_hash": f"{number}"}
        for number, score in enumerate(scores)
    ]
    return found[::2] + found[1::2]


def test_scores_are_in_the_order_of_the_documents() -> None:
    found = document_scores(samples(1.0, 0.0, 0.5), "acc", 0.5)
    assert found is not None
    assert found.scores == (1.0, 0.0, 0.5)
    same = document_scores(samples(0, 0, 0, filter_name="letters") + samples(1, 1, 1), "acc,letters", 0.0)
    assert same is not None
    assert (same.scores, same.documents) == ((0.0, 0.0, 0.0), found.documents)
    fewer = document_scores(samples(1.0, 0.0), "acc", 0.5)
    assert fewer is not None
    assert fewer.documents != found.documents


@pytest.mark.parametrize(
    ("scores", "value"), [((), 0.5), ((1.0, 0.0), 0.75), ((2.0, 0.0), 1.0), (((0, 1), (1, 1)), 0.5)]
)
def test_a_figure_that_is_no_mean_of_scores_has_none(scores: tuple[Any, ...], value: float) -> None:
    """Another aggregation, another range, what is aggregated together."""
    assert document_scores(samples(*scores), "acc", value) is None
