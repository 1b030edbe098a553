"""A trial that begins with an adapter that exists, killed or paused anywhere, at step 0 too: it goes on as if not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.identity import trial_key
from prunedlora.config.trial import trial_with
from prunedlora.results.record import Candidate
from prunedlora.results.store import Store
from prunedlora.training.loop import Verdict
from prunedlora.trial import execute as execute_module
from prunedlora.trial.assets import AssetCache
from tests.trial.originals import (
    CUTS,
    EVENTS,
    RAW,
    SVD,
    all_of,
    down_from,
    lines,
    record_of,
    run,
    untrained,
)

FEW_CUTS = {"sizes": {"mean_rank": [3, 1]}, "at": "start", "screen_examples": None}


class KilledError(BaseException):
    """What no `except Exception` sees."""


def first_names() -> Callable[[str], bool]:
    """Tells of each name once."""
    known = set[str]()
    return lambda name: name not in known and not known.add(name)  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    "form",
    [pytest.param(f, marks=[] if f == "svd" else pytest.mark.slow) for f in ("svd", "events", "branch", "untrained")],
)
def test_killed_at_every_point_it_is_the_same(
    tree: dict[str, Any],
    assets: AssetCache,
    trained: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    """Before and after every candidate, the original and cuts at step 0 among them, and at every step."""
    _, name = trained
    cuts = {"cuts": CUTS | {"at": "every_rung"}}
    trial = {
        "svd": lambda: trial_with(down_from(tree, name, SVD), {"cuts": FEW_CUTS}),
        "events": lambda: trial_with(down_from(tree, name, RAW, EVENTS), cuts),
        "branch": lambda: trial_with(down_from(tree, name, SVD, {"rate": "branch", "branch": 0.3}), cuts),
        "untrained": lambda: untrained(tree, name, {"cuts": CUTS}),
    }[form]()
    run(trial, tmp_path / "whole", assets)
    make, is_new = execute_module.make_candidate, first_names()
    kills = list[str]()

    def kill(what: str) -> Verdict:
        if is_new(what):
            kills.append(what)
            raise KilledError
        return Verdict.CONTINUE

    def make_or_die(live: Any, *given: Any, cut: Any, **named: Any) -> Any:
        kill(f"before {live.step}{cut.name if cut else ''}")
        return make(live, *given, cut=cut, **named)

    monkeypatch.setattr(execute_module, "make_candidate", make_or_die)
    while True:
        try:
            run(
                trial,
                tmp_path / "store",
                assets,
                lambda c: kill(f"after {Candidate.model_validate(c).name}"),
                lambda step, *_: kill(f"step {step}"),
                checkpoint_every_steps=1,
            )
        except KilledError:
            continue
        break
    whole, record = record_of(trial, tmp_path / "whole"), record_of(trial, tmp_path / "store")
    steps = trial.training.num_steps
    assert len(kills) == 2 * len(whole.candidates) + (steps or 0)
    assert all_of(tmp_path / "store", record) == all_of(tmp_path / "whole", whole)
    assert record.screened_cuts == whole.screened_cuts
    assert lines(trial, tmp_path / "store") == lines(trial, tmp_path / "whole")


def test_what_is_made_before_the_first_step_is_made_once(
    tree: dict[str, Any], assets: AssetCache, trained: tuple[Path, str], tmp_path: Path
) -> None:
    """A pause on the original, and a kill at the first step after it, find a checkpoint of step 0."""
    trial, path = down_from(tree, trained[1], SVD), tmp_path / "store"
    made = list[str]()

    def pause(candidate: dict[str, Any]) -> Verdict:
        made.append(str(candidate["step"]))
        return Verdict.PAUSE if candidate["step"] == 0 else Verdict.CONTINUE

    def die(step: int, *_: float) -> Verdict:
        raise KilledError

    assert run(trial, path, assets, pause) == "paused"
    assert Store(str(path)).checkpoints(trial_key(trial)) == ["00000000-001"]
    with pytest.raises(KilledError):
        run(trial, path, assets, pause, die)
    assert run(trial, path, assets, pause) == "completed"
    assert made == ["0", "4", "8"]
    run(trial, tmp_path / "whole", assets)
    assert all_of(path, record_of(trial, path)) == all_of(tmp_path / "whole", record_of(trial, tmp_path / "whole"))
