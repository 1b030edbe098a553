"""How a trial's answers were generated, by its record, for whoever generates them elsewhere.

Measured are the most likely tokens, whatever the base's own generation config says of sampling and penalties; servers
and transformers go by that config unless told.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from transformers import GenerationConfig, PreTrainedTokenizerBase

from prunedlora.delivery.form import Form
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.registry import lookup
from prunedlora.results.record import RecordError, TrialRecord
from prunedlora.tasks.task import padding_token

ENDS_FACT = "ends"
"""Among the facts of the model on record: {token: id}."""


@dataclass(frozen=True)
class RecordedAnswers:
    ends: dict[str, int]
    """Token → id, rising: all that end an answer, the model's own among them. Empty in records that are older than the
    fact: the model's own alone."""
    stop: tuple[str, ...]
    """An answer is cut at the first of these texts."""
    max_new_tokens: int | None
    """None: none were measured."""

    @property
    def end_ids(self) -> list[int]:
        """Of all ends, rising."""
        return sorted(self.ends.values())


def recorded_answers(record: TrialRecord) -> RecordedAnswers | None:
    """None for a task that generates nothing. Raises RecordError for facts that are none."""
    trial = recorded_trial(record)
    if lookup("task", trial.data.task).has_classes:
        return None
    try:
        ends = TypeAdapter(dict[str, int]).validate_python(record.environment.model.get(ENDS_FACT, {}), strict=True)
    except ValidationError as error:
        raise RecordError(f"the record of trial {record.key}: environment.model.{ENDS_FACT}: {error}") from error
    ends = dict(sorted(ends.items(), key=lambda end: end[1]))
    return RecordedAnswers(ends, tuple(trial.evaluation.stop or ()), trial.evaluation.max_new_tokens)


def generate_as_measured(model: Any, tokenizer: PreTrainedTokenizerBase, answers: RecordedAnswers) -> None:
    """Gives a model that goes out whole the generation config that it was measured with. Not its limit, which would be
    that of all answers of a server."""
    own = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=own.bos_token_id,
        eos_token_id=answers.end_ids or own.eos_token_id,
        pad_token_id=padding_token(tokenizer),
    )


def answers_sentence(record: TrialRecord, form: Form) -> str:
    """For a card: where an answer ends, and what a server is sent to answer as measured; empty where nothing says."""
    answers = recorded_answers(record)
    if answers is None:
        return ""
    sentences = []
    if answers.ends:
        names = ", ".join(f"`{token}` ({number})" for token, number in answers.ends.items())
        where = f"; where a server goes on after it, give `stop_token_ids` {answers.end_ids} (vLLM, SGLang)"
        sentences.append(f"An answer ends with {names}{'' if form.merged else where}.")
    if answers.max_new_tokens is not None:
        base = (
            "`generation_config.json` leaves out the base's own"
            if form.merged
            else ("servers take others from the base's `generation_config.json`")
        )
        stop = f", `stop` {list(answers.stop)}" if answers.stop else ""
        sentences.append(
            f"Its answers were measured greedily and without penalties ({base}): send `temperature` 0, "
            f"`repetition_penalty` 1{stop} for the same."
        )
    return " ".join(sentences)
