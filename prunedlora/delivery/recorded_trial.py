"""The configuration of a record, as it was loaded."""

from prunedlora.config.pins import COMMIT, hub_names, pinned
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import TrialRecord


def recorded_trial(record: TrialRecord) -> TrialConfig:
    """The configuration with the commit that the base model was loaded at, where it came from the Hub: a branch may
    have moved since, and an adapter belongs to the weights that it was trained on.

    Records of earlier versions have the commit among the facts of the model, and the name alone in the configuration.
    Where theirs do not say how classes were cut, they were cut at random, whatever was left out.
    """
    trial = TrialConfig.model_validate(record.config)
    data = record.config["data"]
    if isinstance(data, dict) and "stratify" not in data:
        trial = trial.model_copy(update={"data": trial.data.model_copy(update={"stratify": False})})
    commit = record.environment.model.get("revision")
    models = [name.text for name in hub_names([trial]) if name.kind == "model"]
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        return trial
    return pinned(trial, dict.fromkeys(models, commit))
