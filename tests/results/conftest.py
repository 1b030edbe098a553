"""Makers of records: small, valid, with every field that a test may want to change."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from prunedlora.results.record import Candidate, Cut, Environment, ExampleOutcomes, Failure, Figure, TrialRecord
from prunedlora.results.store import Store

SWEEP: dict[str, Any] = {
    "name": "demo",
    "storage": "runs/demo",
    "objectives": {"accuracy": "maximize", "adapter_params": "minimize"},
    "sampler": "tpe",
    "num_trials": 4,
    "recommend_within": 0.01,
    "seed": 0,
    "trial": {"adapter": {"method": "prunedlora"}, "optimizer": {"learning_rate": 1e-05}},
    "baselines": [],
    "space": {"adapter.initial_rank": {"choice": [4, 8]}},
}
_buckets = itertools.count()


def _candidate(accuracy: float = 0.5, params: int = 100, step: int = 10, **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "step": step,
        "progress": 1.0,
        "figures": {
            "accuracy": Figure(value=accuracy, stderr=0.01, num_examples=400),
            "loss": Figure(value=1.0 - accuracy, stderr=0.02, num_examples=400),
        },
        "ranks": {"layer.0.query": 2, "layer.1.query": 1},
        "adapter_params": params,
        "adapter_bytes": 4 * params,
        "head_params": 7,
        "file_bytes": 4 * params + 200,
        "max_rank": 2,
        "served_slot": 8,
        "adapter_path": f"adapters/{step}",
        "train_seconds": 1.5,
        "tokens_seen": 1000,
        "examples_seen": 100,
        "certificate": {"max_logit_difference_reloaded": 1e-07},
    }
    return Candidate(**(fields | changes))


def _cut(rank: int) -> Cut:
    return Cut(basis="svd", allocation="uniform", unit="mean_rank", size=rank)


def _record(key: str = "a1", *candidates: Candidate, **changes: Any) -> TrialRecord:
    fields: dict[str, Any] = {
        "key": key,
        "config": {"adapter": {"method": "prunedlora", "initial_rank": 8}, "optimizer": {"learning_rate": 0.1}},
        "status": "completed",
        "attempts": 1,
        "candidates": candidates or (_candidate(),),
        "environment": Environment(
            packages={"torch": "2.13"}, device="cpu", num_workers=1, model={"name": "m"}, data={"fingerprint": "f"}
        ),
        "train_seconds": 2.0,
    }
    return TrialRecord(**(fields | changes))


def _failed(key: str, *candidates: Candidate, message: str = "loss is nan") -> TrialRecord:
    failure = Failure(type="NonFiniteLossError", message=message, step=3, learning_rate=0.1, traceback="Traceback: …")
    return _record(key, status="failed", failure=failure).model_copy(update={"candidates": candidates})


@pytest.fixture(scope="session")
def sweep() -> dict[str, Any]:
    return SWEEP


@pytest.fixture(scope="session")
def candidate() -> Callable[..., Candidate]:
    """candidate(accuracy, params, step, **other fields)"""
    return _candidate


@pytest.fixture(scope="session")
def cut() -> Callable[[int], Cut]:
    """cut(rank): the oldest kind, by SVD to one rank"""
    return _cut


@pytest.fixture(scope="session")
def record() -> Callable[..., TrialRecord]:
    """record(key, *candidates, **other fields)"""
    return _record


@pytest.fixture(scope="session")
def failed() -> Callable[..., TrialRecord]:
    """failed(key, *candidates, message=…)"""
    return _failed


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for a store: a local folder, and an object store."""
    # Brackets are a pattern to some of fsspec's methods.
    return str(tmp_path / "my [store]") if request.param == "local" else f"memory://bucket{next(_buckets)}/sweep"


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., Store]:
    """fill(*records, **fields of the sweep): a local store that holds the records."""

    def make(*records: TrialRecord, **fields: Any) -> Store:
        store = Store(str(tmp_path / "filled"))
        store.create_or_open(SWEEP | fields)
        for each in records:
            store.write_record(each, driver_epoch=1)
        return store

    return make


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[..., Store]:
    """store_of(folder, {params: how many of 400 examples are wrong}, first=of which example on): one trial each, whose
    records may be given further fields; outcomes are left out on demand."""

    def make(
        folder: str,
        wrong: dict[int, int],
        first: int = 0,
        outcomes: bool = True,
        records: Sequence[dict[str, Any]] | None = None,
        data: str = "f",
        **fields: Any,
    ) -> Store:
        store = Store(str(tmp_path / folder))
        store.create_or_open(SWEEP | {"name": folder} | fields)
        n = 400
        for i, (params, count) in enumerate(wrong.items()):
            share = 1 - count / n
            figure = Figure(value=share, stderr=(share * (1 - share) / (n - 1)) ** 0.5, num_examples=n)
            changes = {} if records is None else records[i]
            made = _record(f"k{i}", _candidate(params=params, figures={"accuracy": figure}), **changes)
            environment = made.environment.model_copy(update={"data": {"fingerprint": data}})
            store.write_record(made.model_copy(update={"environment": environment}), 1)
            correct = tuple(int(not first <= place < first + count) for place in range(n))
            if outcomes:
                store.write_outcomes(
                    made.key,
                    "10",
                    ExampleOutcomes(loss_sums=(0.5,) * n, num_targets=(1,) * n, scores={"accuracy": correct}),
                )
        return store

    return make
