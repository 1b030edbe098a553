"""How long the report takes when a sweep is large: a made-up store of many trials, read and written up.

What is made up are the results. The store is a real one in every other respect: asks in a real space, whole
configurations, ranks of every layer, an outcome per validation example, failed and stopped trials, importances.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import sem

from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.ask import Ask
from prunedlora.results.importances_document import write_importances
from prunedlora.results.record import (
    BaseReference,
    Candidate,
    Environment,
    ExampleOutcomes,
    Failure,
    Figure,
    TrialRecord,
    to_json,
)
from prunedlora.results.report.findings import find_all
from prunedlora.results.report.report import report_html, write_report
from prunedlora.results.store import Store
from prunedlora.study.importances import find_importances
from prunedlora.study.kept_study import propose

NUM_LAYERS, WIDTH = 24, 384
NUM_EXAMPLES = 400


def report_seconds(config: SweepConfig, folder: Path, *, num_trials: int, num_candidates: int) -> dict[str, Any]:
    """Seconds to read and assemble a store of so many trials, each with so many candidates, then for the page, then for
    all of the report again, reading and the other files included; seconds of the CPU beside those of the clock.
    """
    store = made_up_store(config, folder, num_trials=num_trials, num_candidates=num_candidates)
    write_importances(store, find_importances(store.asks(), store.records(), config.objectives, config.telling))
    times = [_now()]
    summary = summarize(store)
    findings = find_all(summary)
    times.append(_now())
    page = report_html(summary, findings)
    times.append(_now())
    write_report(store)
    times.append(_now())
    spans = {
        name: {clock: end[clock] - begin[clock] for clock in begin}
        for name, begin, end in zip(("read", "page", "everything"), times, times[1:], strict=False)
    }
    return {
        "num_trials": len(summary.records),
        "num_candidates": sum(len(record.candidates) for record in summary.records),
        "num_on_front": len(summary.front),
        "seconds": spans,
        "page_bytes": len(page.encode()),
    }


def _now() -> dict[str, float]:
    return {"clock": time.perf_counter(), "cpu": time.process_time()}


def made_up_store(config: SweepConfig, folder: Path, *, num_trials: int, num_candidates: int) -> Store:
    """A store of `num_trials` asks; about one in 25 fails, one in 25 is stopped, both with fewer candidates."""
    store = Store(str(folder))
    store.create_or_open(config.model_dump(mode="json"))
    for ask, record, outcomes in made_up_trials(config, num_trials=num_trials, num_candidates=num_candidates):
        _put(store, f"asks/{ask.number:06d}.json", to_json(ask))
        for step, each in outcomes.items():
            _put(store, store.trial_path(ask.key, "outcomes", f"{step}.json"), each.model_dump_json())
        _put(store, store.trial_path(ask.key, "record.json"), to_json(record))
    base = Figure(value=0.14, stderr=0.017, num_examples=NUM_EXAMPLES)
    store.write_base(BaseReference(figures={config.trial.evaluation.figure: base}))
    return store


def made_up_trials(
    config: SweepConfig, *, num_trials: int, num_candidates: int
) -> Iterator[tuple[Ask, TrialRecord, dict[int, ExampleOutcomes]]]:
    """Asks, their records, and what each candidate (by its step) did on every example."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=NUM_EXAMPLES)
    for number in range(num_trials):
        values, part = propose(
            [],
            {},
            space=config.space,
            objectives=config.objectives,
            sampler="random",
            seed=config.seed + number,
            num_concurrent=1,
        )
        resolved = trial_with(config.trial, values)
        key = f"{number:016x}"
        ask = Ask(number=number, key=key, kind="search", **part)
        yield ask, *_trial(key, resolved, num_candidates, difficulty, rng)


def _trial(
    key: str, trial: TrialConfig, num_candidates: int, difficulty: np.ndarray, rng: np.random.Generator
) -> tuple[TrialRecord, dict[int, ExampleOutcomes]]:
    fate = rng.choice(["completed", "stopped", "failed"], p=[0.92, 0.04, 0.04])
    kept = num_candidates if fate == "completed" else int(rng.integers(0, num_candidates))
    skill = rng.normal(1.5, 0.5)
    candidates, outcomes = [], {}
    for i in range(kept):
        ranks = rng.poisson(8.0 * (1 - 0.9 * (i + 1) / num_candidates), NUM_LAYERS)
        step = (i + 1) * 20
        correct = (difficulty + rng.normal(size=NUM_EXAMPLES) < skill + 0.4 * np.log1p(ranks.mean())).astype(int)
        losses = np.round(rng.exponential(0.5, NUM_EXAMPLES), 12)
        metric = trial.evaluation.figure
        outcomes[step] = ExampleOutcomes(
            loss_sums=tuple(losses.tolist()),
            num_targets=(1,) * NUM_EXAMPLES,
            scores={metric: tuple(correct.tolist())},
        )
        candidates.append(_candidate(step, step / (20 * num_candidates), ranks, metric, correct, losses))
    failure = Failure(
        type="NonFiniteLossError", message=f"loss is nan at step {kept * 20}", step=kept * 20, traceback="Traceback …"
    )
    record = TrialRecord(
        key=key,
        config=trial.model_dump(mode="json"),
        status=fate,
        failure=failure if fate == "failed" else None,
        attempts=1,
        candidates=tuple(candidates),
        environment=Environment(
            packages={"torch": "2.13.0"},
            device="cpu",
            num_workers=1,
            model={"name": trial.model.name},
            data={"fingerprint": "made up"},
        ),
        train_seconds=20.0 * kept,
    )
    return record, outcomes


def _put(store: Store, path: str, text: str) -> None:
    """As the store writes a local file, but for the wait until it would survive a crash: there are 12,000 of them."""
    file = Path(store.uri, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _candidate(
    step: int, progress: float, ranks: np.ndarray, metric: str, correct: np.ndarray, losses: np.ndarray
) -> Candidate:
    def figure(values: np.ndarray) -> Figure:
        return Figure(value=float(values.mean()), stderr=float(sem(values)), num_examples=NUM_EXAMPLES)

    params = int(ranks.sum()) * 2 * WIDTH
    kinds = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    return Candidate(
        step=step,
        progress=progress,
        figures={metric: figure(correct), "loss": figure(losses)},
        ranks={f"bert.encoder.layer.{i // 4}.{kinds[i % 4]}": int(rank) for i, rank in enumerate(ranks)},
        adapter_params=params,
        adapter_bytes=4 * params,
        head_params=150_535,
        file_bytes=4 * params + 605_000,
        max_rank=int(ranks.max()),
        served_slot=next(slot for slot in (1, 8, 16, 32, 64) if slot >= ranks.max()),
        adapter_path=f"adapters/{step:06d}",
        train_seconds=20.0,
        tokens_seen=1000 * step,
        examples_seen=12 * step,
        certificate={"max_logit_difference_reloaded": 1e-07, "num_examples": 4, "tolerance": 1e-03},
    )
