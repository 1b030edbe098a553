"""Importances: which searched fields set the best trials apart, one answer per objective, from asks and records alone.

By PED-ANOVA (https://arxiv.org/abs/2304.10255) as Optuna has it: it knows conditional fields
(https://arxiv.org/abs/2601.20800), draws nothing at random, so that the same records give the same importances, and
needs no scikit-learn, which fANOVA and the forests would.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import optuna
from optuna.trial import FrozenTrial

from prunedlora.config.sweep import Telling
from prunedlora.results.ask import Ask
from prunedlora.results.importances_document import Importances, ObjectiveImportances
from prunedlora.results.record import TrialRecord
from prunedlora.study.rebuild import quiet, rebuild

FEWEST_BEST = 5
"""Optuna advises to compare at least so many of the best trials with the rest."""
FEWEST_TRIALS = 2 * FEWEST_BEST
BEST_SHARE = 0.1
"""Of the trials, Optuna's default, where that is at least FEWEST_BEST."""


def find_importances(
    asks: Sequence[Ask],
    records: Iterable[TrialRecord],
    objectives: Mapping[str, Literal["maximize", "minimize"]],
    telling: Telling = "last",
    serve_on: Sequence[str] = (),
) -> Importances:
    """Importances over the completed search trials on record, of all asks and records of a store. Where the search was
    not told of the last candidate alone (`telling`), stopped trials that left a measured one count with it."""
    by_key = {record.key: record for record in records}
    told = {ask.number: by_key[ask.key] for ask in asks if ask.key in by_key}
    with quiet():
        study = rebuild(asks, told, objectives, optuna.samplers.RandomSampler(seed=0), telling, serve_on)
    num_trials = len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))
    best_share = max(BEST_SHARE, FEWEST_BEST / max(num_trials, FEWEST_TRIALS))
    return Importances(
        evaluator=f"PED-ANOVA of Optuna {optuna.__version__}",
        num_trials=num_trials,
        num_best=0 if num_trials < FEWEST_TRIALS else math.ceil(best_share * num_trials),
        objectives={
            name: _of_one(study, num_trials, best_share, name, i, -1.0 if direction == "maximize" else 1.0)
            for i, (name, direction) in enumerate(objectives.items())
        },
    )


def _of_one(
    study: optuna.Study, num_trials: int, best_share: float, name: str, index: int, sign: float
) -> ObjectiveImportances:
    def no(reason: str) -> ObjectiveImportances:
        return ObjectiveImportances(shares=None, reason=reason)

    if num_trials < FEWEST_TRIALS:
        return no(f"{num_trials} completed search trials are too few: it takes {FEWEST_TRIALS}")
    trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len({trial.values[index] for trial in trials}) == 1:
        return no(f"all {num_trials} trials have the same {name}")
    varied = sorted(path for path in {p for t in trials for p in t.params} if _varies(trials, path))
    if not varied:
        return no(f"every field has one value in all {num_trials} trials")

    # Here, at the end of a sweep: the module imports scikit-learn where that is installed, which takes seconds.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    def target(trial: FrozenTrial) -> float:
        return sign * trial.values[index]

    with quiet(), warnings.catch_warnings():
        # It says that low targets count as good: `sign` sees to that.
        warnings.filterwarnings("ignore", message=".*computes the importances of params to achieve low")
        found = get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(target_quantile=best_share),
            params=varied,
            target=target,
            normalize=False,
        )
    total = sum(found.values())
    if total == 0.0:
        return no(f"the trials of the best {name} do not differ from the others in any field")
    return ObjectiveImportances(shares={path: found[path] / total for path in varied})


def _varies(trials: list[FrozenTrial], path: str) -> bool:
    return len({repr(trial.params.get(path)) for trial in trials}) > 1
