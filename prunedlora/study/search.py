"""Search: the study's next trial. Every ask is written; a repeat, or one that is no trial, is followed by another."""

import hashlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from prunedlora.config.given import given_first
from prunedlora.config.identity import trial_key
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.planned_size import Planner
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.warm_start_document import DROPPED, WarmStart
from prunedlora.study.ask_writer import AskWriter
from prunedlora.study.asked import GIVEN, INVALID, REPEATED, TOO_LARGE, Asked, is_trial, too_large_problem
from prunedlora.study.kept_study import MOST_DRAWN, KeptStudy
from prunedlora.study.listed_configurations import canonical_params
from prunedlora.study.rebuild import ask_seed
from prunedlora.study.suggest import fixed
from prunedlora.study.warm_memory import WarmMemory


class Search:
    """Asks the study; for one thread at a time. It adds to `asked` and to `problems`."""

    def __init__(
        self,
        config: SweepConfig,
        asked: Asked,
        writer: AskWriter,
        problems: list[str],
        planner: Planner | None = None,
        memory: WarmStart | None = None,
    ) -> None:
        """`planner`: sizes of candidates, as far as they are known before training; None: they are not. `memory`: what
        the sweep takes from earlier ones. Raises ValueError where the sweep's `telling` needs sizes."""
        self._config = config
        self._asked = asked
        self._writer = writer
        self._problems = problems
        self._memory = None if memory is None else WarmMemory(memory, config.space, config.objectives, config.serve_on)
        self._study = KeptStudy(
            config.space,
            config.objectives,
            config.sampler,
            config.seed,
            telling=config.telling,
            startup="quasi_random",
            trial=None if planner is None else config.trial,
            planner=planner,
            constraints=config.constraints,
            given=given_first(config.space, config.known),
            serve_on=config.serve_on,
        )

    def next(self, records: Mapping[str, TrialRecord], *, num_concurrent: int) -> Ask | None:
        """The next trial, its ask written; None when the search is at its end, or the writer was closed.

        `records`: key → record, of all trials that the study may know. Raises StoreError.
        """
        while self._asked.num_left and not self._writer.closed:
            told = {ask.number: records[ask.key] for ask in self._asked.asks if ask.key in records}
            values, part = self._suggestion(told, num_concurrent)
            key, trial = self._resolve(values)
            seed = ask_seed(self._config.seed, self._asked.next_number)
            is_given = GIVEN in part["system_attrs"]
            other = None if is_given else self._asked.other_than(key, part["params"], seed)
            if other is not None:
                values, distributions = fixed(other, self._config.space)
                part |= {"params": other, "distributions": distributions}
                key, trial = self._resolve(values)
            if isinstance(trial, ValidationError):
                part["system_attrs"][INVALID] = self._say_invalid(values, trial)
            elif key in self._asked or key in records:
                part["system_attrs"][REPEATED] = True
            elif why := self._study.too_large(values):
                part["system_attrs"][TOO_LARGE] = self._say_too_large(part, why) if is_given else why
            is_new = not part["system_attrs"].keys() & {REPEATED, TOO_LARGE}
            new = trial if isinstance(trial, TrialConfig) and is_new else None
            ask = self._writer.write(self._asked, key, new, part, kind="search")
            if ask is None or is_trial(ask):
                return ask
        if self._asked.ends_too_large:
            self._problems.append(too_large_problem(self._asked, self._config.constraints))
        return None

    def _suggestion(
        self, told: Mapping[int, TrialRecord], num_concurrent: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As `KeptStudy.propose`: what the file gives, the best settings of earlier sweeps, then the study's own, which
        is told of them."""
        if self._memory is None:
            return self._study.propose(self._asked.asks, told, num_concurrent=num_concurrent)
        warm, dropped = self._memory.at(self._asked.asks, told)
        attrs: dict[str, Any] = {DROPPED: dropped} if dropped else {}
        first = None if self._study.is_given(self._asked.asks) else self._memory.first(self._asked.asks)
        if first is not None:
            values, distributions = fixed(first, self._config.space)
            return values, {"params": first, "distributions": distributions, "system_attrs": attrs}
        self._study.warm = warm
        values, part = self._study.propose(self._asked.asks, told, num_concurrent=num_concurrent)
        part["system_attrs"] |= attrs
        return values, part

    def _resolve(self, values: Mapping[str, Any]) -> tuple[str, TrialConfig | ValidationError]:
        """Key and trial of a suggestion, or what is wrong with it, which no corner of the space showed."""
        try:
            trial = trial_with(self._config.trial, values)
        except ValidationError as error:
            return "no-trial-" + hashlib.sha256(canonical_params(values).encode()).hexdigest()[:16], error
        return trial_key(trial), trial

    def _say_too_large(self, part: Mapping[str, Any], why: str) -> str:
        """Of what the file gives: why it is not tried, though it was to be. It is not asked for again."""
        given = part["system_attrs"][GIVEN]
        open_fields = sorted(part["params"].keys() - given.keys())
        if open_fields:
            why += f", and as large with {MOST_DRAWN} draws of what the file leaves open ({', '.join(open_fields)})"
        shown = ", ".join(f"{name}={value}" for name, value in given.items())
        self._problems.append(
            f"{shown}, which the file has tried first, was left out: {why}; give the fields that make it smaller under "
            "`known`, or raise the limits, in another --storage"
        )
        return why

    def _say_invalid(self, values: Mapping[str, Any], error: ValidationError) -> str:
        shown = ", ".join(f"{path}={value}" for path, value in values.items())
        problem = f"the space allows {shown}, which is no trial: {error}"
        self._problems.append(
            f"{problem}; it was passed over and the search went on; to be rid of it narrow the space, in another "
            "--storage"
        )
        return problem
