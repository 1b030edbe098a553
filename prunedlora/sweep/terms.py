"""Terms: what all trials of a store are run with, whatever asks for them."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from prunedlora.config.sweep import ResourcesConfig, RetentionConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord


class Terms(Protocol):
    """As a SweepConfig has them."""

    @property
    def objectives(self) -> Mapping[str, Literal["maximize", "minimize"]]: ...

    @property
    def serve_on(self) -> Sequence[str]: ...

    @property
    def resources(self) -> ResourcesConfig: ...

    @property
    def retention(self) -> RetentionConfig: ...

    @property
    def max_attempts(self) -> int: ...

    @property
    def trial(self) -> TrialConfig:
        """Of the base model's evaluation."""


class TrialSource(Protocol):
    """Who hands out trials and takes them back: `study.asker.Asker`, `study.confirm_asker.ConfirmAsker`,
    `sweep.second_chance.SecondChance`."""

    num_slots: int

    @property
    def num_kept(self) -> int: ...

    @property
    def num_resumed(self) -> int: ...

    @property
    def problems(self) -> list[str]: ...

    @property
    def num_repeats(self) -> int: ...

    @property
    def num_left(self) -> int: ...

    @property
    def num_concurrent(self) -> int: ...

    @property
    def finished(self) -> bool: ...

    @property
    def records(self) -> list[TrialRecord]: ...

    def next(self) -> Ask | None: ...

    def end(self, number: int) -> TrialRecord | None: ...

    def stop(self) -> None: ...

    def close(self, timeout: float = ...) -> bool: ...
