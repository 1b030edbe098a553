"""Judging: what a judge must know of a sweep's trials, from its configuration and its store."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunedlora.config.stopping_section import StoppingConfig
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import Planner
from prunedlora.results.ask import Ask
from prunedlora.results.record import GoesOn, TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.asked import is_trial
from prunedlora.sweep.judge import About, Judge
from prunedlora.trial.rivals import comparable


@dataclass(frozen=True)
class Judging:
    """How the trials of a sweep are judged."""

    stopping: StoppingConfig
    store: Store
    size: str
    """Axis of size that they are compared on."""
    planner: Planner

    @classmethod
    def of(cls, config: SweepConfig, store: Store, planner: Planner | None) -> "Judging | None":
        """None for a sweep that stops no trials. `planner`: None where nothing is left to be trained."""
        if config.stopping is None or planner is None:
            return None
        return cls(config.stopping, store, config.size, planner)

    def about(self, ask: Ask) -> dict[str, Any]:
        """Of the trial of an ask, whose configuration is in the store."""
        return dict(self._about(ask, self.store.read_config(ask.key)))

    def judge(self) -> Judge:
        """One that knows all trials of the store; those without a record are in flight."""
        return self._judge_of(*self._on_record())

    def going_on(self) -> list[tuple[Ask, float]]:
        """Of the trials that were stopped with a checkpoint left, and not a second time, those that go on by what the
        others have come to: asks and loss when they were stopped, the best first. It is on record when it returns."""
        asks, records = self._on_record()
        judge = self._judge_of(asks, records)
        found = []
        for key, ask in asks.items():
            record = records.get(key)
            if record is None or record.stopped_at is None or not self.store.checkpoints(key):
                continue
            look, goes_on = record.stopped_at, self.store.read_goes_on(key)
            if goes_on is None:
                decision = judge.decide(key, look.share)
                if decision is None or decision["stops"]:
                    continue
                goes_on = GoesOn.model_validate({"step": look.step, "decision": decision})
                self.store.write_goes_on(key, goes_on)
            if goes_on.is_due(record):
                found.append((ask, look.loss.value))
        return sorted(found, key=lambda each: (each[1], each[0].number))

    def _on_record(self) -> tuple[dict[str, Ask], dict[str, TrialRecord]]:
        asks = {ask.key: ask for ask in self.store.asks() if is_trial(ask) and ask.kind != "confirm"}
        return asks, {record.key: record for record in self.store.records_of(asks)}

    def _judge_of(self, asks: Mapping[str, Ask], records: Mapping[str, TrialRecord]) -> Judge:
        judge = Judge(self.stopping.margin)
        looks = self.store.read_looks_of(list(records.values()))
        # As they were asked for: those of records name the Hub's commits beside.
        for ask, config in zip(asks.values(), self.store.read_configs(list(asks)), strict=True):
            key, record = ask.key, records.get(ask.key)
            judge.begin(key, self._about(ask, config))
            for stored in self.store.looks(key) if record is None else looks[key]:
                judge.see(key, stored.model_dump(mode="json"))
            if record is not None:
                judge.end(key, record.status)
        return judge

    def _about(self, ask: Ask, config: Mapping[str, Any]) -> About:
        planned = self.planner(TrialConfig.model_validate(config))
        sizes = [size for each in planned if (size := each.size(self.size)) is not None]
        is_known = len(sizes) == len(planned)
        return About(
            sizes=sizes if is_known else [],
            at=[each.share for each in planned] if is_known else [],
            group=comparable(dict(config)),
            is_judged=ask.kind == "search",
        )
