"""Sweeps of a comparison in this process, without Ray."""

import torch

from prunedlora.config.identity import trial_key
from prunedlora.config.sweep import SweepConfig
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial

CPU = torch.device("cpu")


class Runner:
    """Runs a sweep's baselines in this process; keeps what it trained."""

    def __init__(self, store: Store, most: int | None = None) -> None:
        self.store, self.most = store, most
        self.labels: list[str | None] = []
        self.assets = AssetCache(CPU)

    def __call__(self, sweep: SweepConfig) -> None:
        self.store.create_or_open(sweep.model_dump(mode="json"))  # as run_sweep does: it must take what a rerun brings
        for trial, label in zip(sweep.baseline_trials(), sweep.baseline_labels(), strict=True):
            key = trial_key(trial)
            if self.store.read_record(key) is not None or len(self.labels) == self.most:
                continue
            self.labels.append(label)
            self.store.write_config(key, trial.model_dump(mode="json"))
            execute_trial(
                trial, key, store=self.store, assets=self.assets, workers=Workers(0, 1, CPU), epoch=1, max_attempts=2,
                report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
            )  # fmt: skip
