"""The base model's type of records that are older than that fact, which servers' rules ask for."""

from transformers import PretrainedConfig

from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.results.record import TrialRecord
from prunedlora.training.model import load_model_config
from prunedlora.trial.base_cache import model_settings

FACT = "model_type"


def base_config(record: TrialRecord) -> PretrainedConfig:
    """The configuration of the record's base model. Raises OSError, or ValueError, where it cannot be read."""
    config: PretrainedConfig = load_model_config(model_settings(recorded_trial(record)))
    return config


def with_model_type(record: TrialRecord) -> TrialRecord:
    """The record with the type of its base model among the facts, looked up where it is older than these; as it is
    where its base is not to be had, of which rules then say that it is not known."""
    facts = record.environment.model
    if FACT in facts:
        return record
    try:
        found = base_config(record).model_type
    except (OSError, ValueError):
        return record
    environment = record.environment.model_copy(update={"model": facts | {FACT: found}})
    return record.model_copy(update={"environment": environment})
