"""What the study is told of a trial."""

import warnings
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from prunedlora.results.record import Candidate, Cut, Failure, Figure, JudgedByLoss, ObjectiveError, TrialRecord
from prunedlora.study.rebuild import objective_values, outcome, quiet
from prunedlora.trial.failures import JUDGED, RECORDED, TABLE
from tests.inventions import invented_record, sweep_tree


def svd_trial(folder: Path) -> TrialRecord:
    """A training that ended at loss 1.886, and its truncations to rank 4 and 1, the last at 2.144."""
    record = invented_record("a", sweep_tree(folder)["trial"])
    (trained,) = record.candidates
    losses = {None: 1.886, 4: 1.95, 1: 2.144}
    candidates = [
        trained.model_copy(
            update={
                "cut": rank and Cut(basis="svd", allocation="uniform", unit="mean_rank", size=rank),
                "figures": {"loss": Figure(value=loss, num_examples=10)},
                "adapter_params": 100 * (rank or 8),
            }
        )
        for rank, loss in losses.items()
    ]
    return record.model_copy(update={"candidates": tuple(candidates)})


def test_a_trial_of_method_svd_is_told_as_its_training_not_as_its_smallest_cut(tmp_path: Path) -> None:
    record = svd_trial(tmp_path)
    assert objective_values(record, ["loss", "adapter_params"]) == [1.886, 800.0]
    assert record.last_trained == record.candidates[0]


def test_truncations_alone_are_no_value(tmp_path: Path) -> None:
    record = svd_trial(tmp_path)
    cut = record.model_copy(update={"candidates": record.candidates[1:]})
    with pytest.raises(ObjectiveError, match="trial a has no candidate that is as it was trained"):
        objective_values(cut, ["loss"])


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("trial", TrialState.PRUNED),
        ("node", TrialState.FAIL),
        ("storage", TrialState.FAIL),
        ("user", TrialState.FAIL),
        (None, TrialState.FAIL),
    ],
)
def test_the_study_learns_from_failures_of_the_trials_own_alone(fault: str | None, state: TrialState) -> None:
    record = invented_record("a", sweep_tree(Path("unused"))["trial"], "failed")
    failure = Failure.model_validate({"type": "OutOfMemory", "message": "", "fault": fault, "traceback": ""})
    assert outcome(record.model_copy(update={"failure": failure}), ["accuracy"]) == (state, None)


def test_the_table_of_failures_judges_what_the_study_takes_for_bad() -> None:
    for row in TABLE:
        record = invented_record("a", sweep_tree(Path("unused"))["trial"], "failed")
        failure = Failure(type="E", message="", fault=row.fault, traceback="")
        state, _ = outcome(record.model_copy(update={"failure": failure}), ["accuracy"])
        assert (state is TrialState.PRUNED) == (row.consequence is JUDGED), row
        assert row.consequence.has_record == (row.consequence in (JUDGED, RECORDED))


def test_a_stopped_trial_is_pruned_and_one_without_a_value_teaches_nothing() -> None:
    record = invented_record("a", sweep_tree(Path("unused"))["trial"], "stopped")
    assert outcome(record, ["accuracy"]) == (TrialState.PRUNED, None)
    record = record.model_copy(update={"status": "completed"})
    assert outcome(record, ["accuracy"])[0] is TrialState.COMPLETE
    assert outcome(record, ["accuracy", "tasks/none"]) == (TrialState.FAIL, None)


def judged(candidate: Candidate) -> Candidate:
    """As its loss alone was measured."""
    why = JudgedByLoss(beaten_by="b@1", num_examples=10, difference=0.5, stderr=0.1)
    return candidate.model_copy(update={"judged_by_loss": why, "figures": {"loss": candidate.figures["loss"]}})


def ladder_trial() -> TrialRecord:
    record = invented_record("a", sweep_tree(Path("unused"))["trial"])
    (made,) = record.candidates
    figures = {"accuracy": Figure(value=0.5, num_examples=10), "loss": Figure(value=2.0, num_examples=10)}
    rungs = [
        made.model_copy(update={"step": 5 + n, "rung": n, "adapter_params": 100 - n, "figures": figures})
        for n in range(3)
    ]
    return record.model_copy(update={"candidates": tuple(rungs)})


def test_a_ladder_is_told_as_its_last_rung_that_has_the_figures() -> None:
    record, objectives = ladder_trial(), ["accuracy", "adapter_params"]
    *first, last = record.candidates
    assert objective_values(record, objectives) == [0.5, 98.0]
    some = record.model_copy(update={"candidates": (*first, judged(last))})
    assert outcome(some, objectives) == (TrialState.COMPLETE, [0.5, 99.0])
    assert outcome(some, ["loss", "adapter_params"]) == (TrialState.COMPLETE, [2.0, 98.0])


def test_a_training_of_which_nothing_is_worth_its_answers_is_pruned() -> None:
    record = ladder_trial()
    none = record.model_copy(update={"candidates": tuple(map(judged, record.candidates))})
    assert outcome(none, ["accuracy", "adapter_params"]) == (TrialState.PRUNED, None)
    assert outcome(none, ["loss", "adapter_params"]) == (TrialState.COMPLETE, [2.0, 98.0])


def test_quiet_ends_with_the_last_thread_that_wants_it() -> None:
    """Verbosity and filters are the process's: one thread's end must neither break nor keep another's quiet."""
    before, filters = optuna.logging.get_verbosity(), list(warnings.filters)
    first, second = quiet(), quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
    second.__exit__(None, None, None)
    assert (optuna.logging.get_verbosity(), warnings.filters) == (before, filters)
