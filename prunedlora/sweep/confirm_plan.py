"""Which adapters of a store are confirmed, with which fresh seeds: the plan, from the store alone. Writes nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.config.identity import trial_key
from prunedlora.config.trial import TrialConfig
from prunedlora.results.analysis.configurations import identity
from prunedlora.results.analysis.confirmation import confirming_keys
from prunedlora.results.analysis.find import BEST, RECOMMENDED, find_candidate
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.analysis.trainings import is_untrained
from prunedlora.results.ask import ConfirmationPlan, ConfirmedSetting
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.recorded_settings import FULL, method
from prunedlora.results.store import Store
from prunedlora.sweep.confirm_second import second

FRONT = "front"
WHAT_HANGS = (RECOMMENDED, BEST)
"""What is confirmed where nothing is named: what the decision hangs on."""


class ConfirmError(ValueError):
    """What cannot be confirmed, with why and what could be."""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    names: tuple[str, ...] = WHAT_HANGS
    """As `find_candidate` takes them, or FRONT. Where WHAT_HANGS is one adapter, `second` stands beside it."""
    num_seeds: int = 3
    most_seeds: int | None = None
    """Trainings of each up to which those go on that could not be told; None: `num_seeds`."""
    num_looks: int | None = None
    """Looks from `num_seeds` to `most_seeds`; None: one at each."""
    within: float | None = None
    """None: the sweep's margin."""
    confidence: float = 0.95

    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds at which it is looked. Raises ConfirmError for numbers that do not fit."""
        first, last = self.num_seeds, self.num_seeds if self.most_seeds is None else self.most_seeds
        if first < 1:
            raise ConfirmError(f"--seeds {first}: at least 1; from 2 on something can be told of settings")
        if last < first:
            raise ConfirmError(f"--most-seeds {last} is below --seeds {first}: leave it out, or raise it")
        most = last - first + 1
        count = min(2, most) if self.num_looks is None else self.num_looks
        if not (1 if most == 1 else 2) <= count <= most:
            between = "one, at that" if most == 1 else f"2 to {most}, at one number of seeds each"
            raise ConfirmError(f"--looks {count}: from {first} to {last} seeds there can be {between}")
        return tuple(first + round(number * (last - first) / max(1, count - 1)) for number in range(count))


def make_plan(summary: Summary, request: Request, asked_by: str, asked_at: str) -> tuple[ConfirmationPlan, bool]:
    """The plan of a request, and whether it is new: asked for again, it is that of before, since what had been told by
    then must not decide what is looked at. Raises ConfirmError, UnknownCandidateError, RecordError, StoreError."""
    looks = request.looks()
    within = summary.within if request.within is None else request.within
    if not 0 <= within < float("inf"):
        raise ConfirmError(f"--within {within:g}: at least 0, and finite")
    if not 0.5 < request.confidence < 1:
        raise ConfirmError(f"--confidence {request.confidence:g}: between 0.5 and 1")
    chosen = _chosen(summary, request.names)
    if request.names == WHAT_HANGS and (beside := second(summary)) is not None:
        chosen.append((beside.point.record, beside.point.candidate))
    groups = _settings(chosen)
    names = [f"{record.key}@{name}" for record, candidates in groups for name in candidates]
    best = None if summary.best is None else summary.best.name
    gains = {
        f"{r.key}@{c.name}": summary.objectives.gain(c.figure(summary.objectives.quality).value) for r, c in chosen
    }
    against: str | None = best if best in names else max(names, key=lambda name: (gains[name], name))
    if len(names) == 1:
        if len(looks) > 1:
            raise ConfirmError(
                f"--most-seeds {looks[-1]}: one adapter is compared with nothing that more seeds could tell"
            )
        against = None
    for plan in reversed(about_the_same(summary, names)):
        terms = plan.looks, plan.within, plan.confidence
        is_against = _about(summary, [plan.against or ""]) == _about(summary, [against or ""])
        if terms == (looks, within, request.confidence) and is_against:
            return plan, False
    if against is not None and looks[0] < 2:
        raise ConfirmError(
            f"--seeds {looks[0]}: at least 2 where adapters are compared, since one training of each tells nothing of "
            "settings"
        )
    seeds = _fresh_seeds(summary, [record for record, _ in groups], looks[-1])
    settings = tuple(
        ConfirmedSetting(
            key=record.key,
            candidates=candidates,
            fresh=tuple(trial_key(fresh_trial(summary.store, record.key, seed)) for seed in seeds),
        )
        for record, candidates in groups
    )
    plan = ConfirmationPlan(
        number=summary.plans[-1].number + 1 if summary.plans else 0,
        names=request.names,
        settings=settings,
        against=against,
        seeds=seeds,
        looks=looks,
        within=within,
        confidence=request.confidence,
        asked_by=asked_by,
        asked_at=asked_at,
    )
    return plan, True


def about_the_same(summary: Summary, names: Iterable[str]) -> list[ConfirmationPlan]:
    """Plans on exactly these adapters, in whatever order, and by whichever training of the same settings."""
    about = _about(summary, names)
    return [plan for plan in summary.plans if _about(summary, plan.candidates) == about]


def _about(summary: Summary, names: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Settings and candidate of each `<key>@<candidate>`."""
    settings = {record.key: identity(record) for record in summary.records}
    return frozenset((settings.get(key, key), name) for key, _, name in (each.partition("@") for each in names))


def fresh_trial(store: Store, key: str, seed: int) -> TrialConfig:
    """A trial's configuration with another seed, as it is written. Raises StoreError, RecordError."""
    return TrialConfig.model_validate(store.read_config(key) | {"seed": seed})


def _chosen(summary: Summary, names: Iterable[str]) -> list[tuple[TrialRecord, Candidate]]:
    """Record and candidate of each name, each once. Raises what `make_plan` does."""
    found: dict[str, tuple[TrialRecord, Candidate]] = {}
    for name in names:
        pairs = [find_candidate(summary.store, name)] if name != FRONT else []
        if name == FRONT:
            pairs = [(point.record, point.candidate) for point in summary.shippable_front]
            if not pairs:
                raise ConfirmError(f"{summary.store.uri} has no front. {summary.missing_answer()}")
        for record, candidate in pairs:
            _refuse(summary, record, candidate)
            found[f"{record.key}@{candidate.name}"] = record, candidate
    return list(found.values())


def _refuse(summary: Summary, record: TrialRecord, candidate: Candidate) -> None:
    """Raises ConfirmError for what fresh seeds say nothing of."""
    name = f"{record.key}@{candidate.name}"
    if record.key in confirming_keys(summary.plans):
        raise ConfirmError(f"{name} is of a fresh training itself: name the adapter that it confirms")
    if record.status == "failed":
        raise ConfirmError(f"trial {record.key} failed: there is nothing of it to confirm; name a completed one")
    if method(record) == FULL:
        raise ConfirmError(f"{name} is fully fine-tuned: no choice of an adapter hangs on it; name adapters")
    if is_untrained(record) or candidate.step == 0:
        what = "is the adapter that it began with" if candidate.is_original else "is a cut of the adapter it began with"
        raise ConfirmError(
            f"{name} {what}: nothing of it was trained, so that another seed gives the same again; name adapters that "
            "were trained"
        )
    if "seed" not in record.config:
        raise ConfirmError(f"trial {record.key} has no seed on record: it is of an older version; name another")
    if not candidate.is_measured([summary.objectives.quality]):
        raise ConfirmError(f"{name} has no {summary.objectives.quality}: there is nothing to confirm; name another")


def _settings(chosen: Sequence[tuple[TrialRecord, Candidate]]) -> list[tuple[TrialRecord, tuple[str, ...]]]:
    """By configuration, each with the names of its candidates. Trainings that differ in their seed alone are one: of
    equal candidates the first stands for all. Raises ConfirmError where the first has no such candidate."""
    groups: dict[str, tuple[TrialRecord, dict[str, None]]] = {}
    for record, candidate in chosen:
        first, names = groups.setdefault(identity(record), (record, {}))
        if all(each.name != candidate.name for each in first.candidates):
            raise ConfirmError(
                f"{record.key}@{candidate.name} and trial {first.key} differ in their seed alone, and that has no "
                f"candidate {candidate.name}: name one of both"
            )
        names[candidate.name] = None
    return [(record, tuple(names)) for record, names in groups.values()]


def _fresh_seeds(summary: Summary, records: Sequence[TrialRecord], count: int) -> tuple[int, ...]:
    """The lowest that none of these configurations was trained, or queued, with."""
    store = summary.store
    recorded = {identity(record) for record in records}
    queued = {_without_seed(store.read_config(record.key)) for record in records}
    used = {record.config["seed"] for record in summary.records if identity(record) in recorded}
    done = {record.key for record in summary.records}
    for key in {ask.key for ask in summary.asks} - done:
        # An ask that repeats another, or was no trial, has no configuration of its own.
        if key in store.trial_keys(key) and _without_seed(config := store.read_config(key)) in queued:
            used.add(config["seed"])
    used |= {seed for plan in summary.plans if _is_of(plan, summary, recorded) for seed in plan.seeds}
    fresh = (seed for seed in range(count + len(used) + 1) if seed not in used)
    return tuple(seed for seed, _ in zip(fresh, range(count), strict=False))


def _is_of(plan: ConfirmationPlan, summary: Summary, identities: set[str]) -> bool:
    """Whether a plan, begun or not, is about any of these configurations."""
    keys = {setting.key for setting in plan.settings}
    return any(record.key in keys and identity(record) in identities for record in summary.records)


def _without_seed(config: dict[str, Any]) -> str:
    return repr(sorted((name, repr(value)) for name, value in config.items() if name != "seed"))
