"""What a trial leaves behind: one JSON document, strictly read, never edited, only replaced whole.

Every figure is a measurement on the validation split unless its field says otherwise. Documents are canonical (sorted
keys, no NaN, floats with every digit), so that writing and reading gives an equal object.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from prunedlora.results.upgrade import OLD_VERSION, UpgradeError, upgraded
from prunedlora.sizes import SIZES

SCHEMA_VERSION: Final = 2
"""Of every document. Those of schema 1 are read too (upgrade.py); what is written is of this one."""
HARNESS: Final = "harness/"
"""What the names of lm-evaluation-harness's figures begin with."""
Fault = Literal["trial", "node", "storage", "user"]
"""Whose a failure is."""


class RecordError(ValueError):
    """A stored document that is broken or of a newer version; the message names its path."""


class ObjectiveError(ValueError):
    """An objective that a candidate has no value for; the message lists the ones it has."""


def known_objectives(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names that may stand under `objectives`: the task's metrics, then the sizes."""
    return (*metrics, *SIZES)


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _finite(part)
    return value


Json = Annotated[JsonValue, AfterValidator(_finite)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Count = Annotated[int, Field(ge=0)]
Score = Annotated[float, Field(ge=0.0, le=1.0)]


class Document(BaseModel):
    """A frozen part of the store; unknown fields, other types and non-finite numbers are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class Figure(Document):
    value: float
    stderr: float | None = Field(default=None, ge=0.0)
    """Standard error over the examples, of a mean or by the jackknife; None when there is none to speak of (one
    example)."""
    num_examples: int = Field(ge=1)


class ExampleOutcomes(Document):
    """What a candidate did on each validation example, in the order of the split: for paired comparisons."""

    schema_version: Literal[2] = SCHEMA_VERSION
    loss_sums: tuple[float, ...]
    """Cross-entropy in nats, summed over the targets of the example."""
    num_targets: tuple[int, ...]
    scores: dict[str, tuple[Score, ...]]
    """Metric → score of each example: 1 for a right one, 0 for a wrong one, between them where a part is right. Of
    `harness/<task>/<metric>`: of each document of that task, in its order."""
    documents: str | None = None
    """sha256 of those documents; None where there are none."""
    true_classes: tuple[Count, ...] | None = None
    """Class of each example, by its number; where a figure that is made of all classes together was asked for
    (balanced_accuracy, macro_f1, matthews), which is resampled from them. None elsewhere, and in older records."""
    predicted_classes: tuple[Count, ...] | None = None
    """The class that the candidate gave each; there with `true_classes`."""

    @model_validator(mode="after")
    def _one_class_each(self) -> Self:
        lengths = [None if each is None else len(each) for each in (self.true_classes, self.predicted_classes)]
        if lengths not in ([None, None], [len(self.loss_sums)] * 2):
            raise ValueError(
                f"{len(self.loss_sums)} examples have {lengths[0]} true and {lengths[1]} predicted classes"
            )
        return self


class Failure(Document):
    type: str = Field(min_length=1)
    """Name of the exception's class."""
    message: str
    fault: Fault | None = None
    """Whose it is (trial/failures.py); None: not known, as in older records. Only of a trial's own does the study
    learn that its settings are bad."""
    step: Count | None = None
    learning_rate: float | None = None
    traceback: str


class Cut(Document):
    """How an adapter was made smaller without training."""

    basis: Literal["svd", "whitened"]
    """The principal components of B A, by its norm or in the metric of the loss; the smallest went."""
    allocation: str
    """Who lost components, by the names of pruning.allocation."""
    unit: Literal["parameters", "mean_rank", "kept"]
    size: float = Field(gt=0.0)
    """What it was cut to, in `unit`."""

    @property
    def name(self) -> str:
        """What tells the cuts of one adapter apart: "r4" for the oldest kind, svd to one rank; else all of it."""
        if (self.basis, self.allocation, self.unit) == ("svd", "uniform", "mean_rank"):
            return f"r{self.size:g}"
        return f"-{self.basis}-{self.allocation}-{self.unit}-{self.size:.12g}"


class JudgedByLoss(Document):
    """Why no answers were generated for a candidate: another one, no larger on any axis of size, has a clearly lower
    loss on the same examples, so that it is not on the front (trial/worth.py)."""

    beaten_by: str = Field(min_length=1)
    """The other candidate, `<key>@<name>`."""
    num_examples: int = Field(ge=2)
    difference: float = Field(gt=0.0)
    """How much lower the other's loss is, in nats per target."""
    stderr: float = Field(ge=0.0)
    """Of the difference, paired."""

    @property
    def words(self) -> str:
        return f"judged by loss: beaten by {self.beaten_by} on {self.num_examples:,} examples"


class Candidate(Document):
    """One evaluated adapter: a milestone, a rung, a cut, the end of a trial, or what it began with."""

    step: Count
    """Optimizer steps done; 0: of the adapter that the training began with (`is_original`), or a cut of it."""
    progress: float = Field(ge=0.0, le=1.0)
    """Share of the training's steps that is done; 1 where it has none."""
    rung: Count | None = None
    """Number of the ladder's rung that it stands on, 0 for the trunk (at step 0 an adapter that was there before); None
    without a ladder."""
    branch_steps: int | None = Field(default=None, ge=1)
    """Steps of the decay branch that it was made in, which are among `step` and were thrown away afterwards; None where
    the training went on from it."""
    cut: Cut | None = None
    """How it was made smaller without training, from what was trained until `step`; None: it is as it was trained."""
    figures: dict[str, Figure]
    """Metric → its value on the validation split; `harness/<task>/<metric>`: by lm-evaluation-harness, on the split
    that its task names, at the end of a training only unless it is what candidates are chosen by."""
    ranks: dict[str, Count]
    """Full module name in the base model → rank."""
    adapter_params: Count
    """Numbers in all A and B."""
    adapter_bytes: Count
    """Size of all A and B as stored (float32)."""
    head_params: Count
    """Numbers in the modules trained whole, reported beside the adapter."""
    file_bytes: Count
    """Measured size of adapter_model.safetensors (head included); 0 when no file was written."""
    file_sha256: str | None = None
    """Of adapter_model.safetensors; None when no file was written."""
    max_rank: Count
    served_slot: int | None = Field(default=None, ge=1)
    """Smallest rank slot of vLLM that holds the adapter; None when it is larger than the largest slot."""
    served_slot_bytes: Count | None = None
    """GPU memory of that slot in half precision: A and B of every linear layer of the base, adapted or not, at the
    slot's rank (served_slot.py). None without a slot, for bases whose layers cannot be told apart, and in older
    records."""
    adapter_path: str | None = None
    """Folder of the PEFT adapter, relative to the trial's folder; None when all ranks are 0 or it was deleted."""
    train_seconds: float = Field(ge=0.0)
    """Of its training until then: the candidates of a training share its cost (analysis/cost.py), so no sum of theirs
    is one. The same holds of tokens and examples."""
    evaluation_seconds: float | None = Field(default=None, ge=0.0)
    """Of measuring this candidate alone, export and verification included; None in older records."""
    tokens_seen: Count
    examples_seen: Count
    certificate: dict[str, Json] | None = None
    """What was checked when the adapter was exported. A `max_logit_change` of 0: it changed nothing there."""
    judged_by_loss: JudgedByLoss | None = None
    """Why it has no figure that is made of answers; None: it has all figures."""
    harness_failure: Failure | None = None
    """Why lm-evaluation-harness has no figures of this adapter, which is none the worse for it; None: it has, or was
    not asked."""

    @property
    def name(self) -> str:
        """What tells the candidates of a trial apart: the step, and the name of a cut ("180", "180r4")."""
        return str(self.step) if self.cut is None else f"{self.step}{self.cut.name}"

    @property
    def is_original(self) -> bool:
        """Whether it is the adapter that the training began with, as it came. Which one that was is in the record's
        config (adapter.start_from) and facts (environment.model)."""
        return self.step == 0 and self.cut is None

    @property
    def is_half_trained(self) -> bool:
        """Whether it is a milestone on the way: on no rung, not cut, its training not at its end."""
        return self.rung is None and self.cut is None and self.step > 0 and self.progress < 1.0

    def figure(self, name: str) -> Figure:
        """The measurement called `name`. Raises ObjectiveError, listing the recorded ones, when there is none."""
        if name not in self.figures:
            known = ", ".join(known_objectives(sorted(self.figures)))
            why = "" if self.judged_by_loss is None else f" of {self.name} ({self.judged_by_loss.words})"
            if self.harness_failure is not None and name.startswith(HARNESS):
                why = f" of {self.name} (lm-evaluation-harness failed: {self.harness_failure.message})"
            raise ObjectiveError(f"objective {name!r} is no recorded figure{why}; recorded: {known}")
        return self.figures[name]

    def is_measured(self, objectives: Collection[str]) -> bool:
        """Whether none of these is a figure that its loss made needless to measure (`judged_by_loss`), or that
        lm-evaluation-harness failed to measure (`harness_failure`)."""
        missing = [name for name in objectives if name not in SIZES and name not in self.figures]
        is_unmeasured = self.harness_failure is not None and any(name.startswith(HARNESS) for name in missing)
        return not (missing and (self.judged_by_loss is not None or is_unmeasured))

    def objective(self, name: str) -> float:
        """The value of a figure or size. Raises ObjectiveError when the candidate has none."""
        if name not in SIZES:
            return self.figure(name).value
        value = getattr(self, name)
        if value is None:
            why = f"max_rank is {self.max_rank}"
            if self.served_slot is not None:
                why = "its record is older than this figure, or its base model keeps several layers in one tensor"
            raise ObjectiveError(f"objective {name!r} has no value at step {self.step}: {why}")
        return float(value)


class ScreenedCut(Document):
    """What was found of a cut that was asked for, before it was evaluated on all validation examples: it is a candidate
    unless it was passed over (`beaten_by`) or left out."""

    step: Count
    """Of the candidate that was cut."""
    cut: Cut
    adapter_params: Count | None = None
    """None: there is no such adapter (`left_out`)."""
    loss: Figure | None = None
    """On the first validation examples (cuts.screen_examples) alone; None: it was not measured there."""
    beaten_by: str | None = None
    """Name of an adapter of the same training, of no more parameters, whose loss on the same examples is lower by more
    than two standard errors of the difference: no candidate was made."""
    left_out: str | None = None
    """Why there is no such adapter, or none that could be evaluated: it takes nothing, is another cut, its loss or its
    metric is not finite, or memory does not suffice for it. The training is none the worse."""

    @property
    def is_wanted(self) -> bool:
        """Whether it is to be a candidate."""
        return self.beaten_by is None and self.left_out is None

    @property
    def name(self) -> str:
        """The name of its candidate, were there one."""
        return f"{self.step}{self.cut.name}"


class Beaten(Document):
    """Who is ahead at a size."""

    size: float = Field(ge=0.0)
    """That the trial had still ahead, on the sweep's axis of size."""
    by: Key
    """Of a trial with a size that is no larger."""


class Decision(Document):
    """Whether a trial goes on after a look, and what that was decided by (study/stopping.py)."""

    stops: bool
    beaten_by: tuple[Beaten, ...] = ()
    """Rising in size."""
    spared: str | None = None
    """Why it goes on though it is beaten at every size."""
    peers: dict[Key, float] = Field(default={})
    """Key → loss of the trials that it was compared with, as far on as it."""

    @property
    def words(self) -> str:
        """By whom it is beaten: the trials, each once."""
        others = list(dict.fromkeys(each.by for each in self.beaten_by))
        return f"beaten by {', '.join(others)}" if others else "beaten by none"


class Look(Document):
    """A trial on the way, on a few validation examples (the first): no candidate, unless there is one of its step."""

    step: int = Field(ge=1)
    share: float = Field(gt=0.0, lt=1.0)
    """Of the training's steps that is done."""
    loss: Figure
    last_removal: float | None = None
    """Share of the steps after which components went last; None: none have gone."""
    decision: Decision | None = None
    """None: it was not judged, being a baseline, or of sizes that are not known before it is trained."""


class StoredLook(Document):
    """A look with what it saw on each example, for paired comparisons with others; written before it is acted on."""

    schema_version: Literal[2] = SCHEMA_VERSION
    look: Look
    loss_sums: tuple[float, ...] = Field(min_length=1)
    """As of ExampleOutcomes."""
    num_targets: tuple[int, ...]


class GoesOn(Document):
    """That a trial that was stopped goes on from its checkpoint, by a second judgement after all was asked; written
    before it does."""

    schema_version: Literal[2] = SCHEMA_VERSION
    step: int = Field(ge=1)
    """Of the look at which it was stopped."""
    decision: Decision
    """The second one."""

    def is_due(self, record: "TrialRecord") -> bool:
        """Whether this record is still the one that it had when it was stopped there."""
        look = record.stopped_at
        return look is not None and look.step == self.step


class BaseReference(Document):
    """The untrained base model on the same axes: what accuracy costs nothing."""

    schema_version: Literal[2] = SCHEMA_VERSION
    figures: dict[str, Figure]
    head_params: Count = 0
    adapter_params: Literal[0] = 0
    adapter_bytes: Literal[0] = 0
    max_rank: Literal[0] = 0


class Environment(Document):
    packages: dict[str, str]
    """Distribution → version."""
    git_commit: str | None = None
    git_dirty: bool | None = None
    device: str
    num_workers: int = Field(ge=1)
    """Data-parallel workers that shared every batch. Beside `num_threads` it is what an equal key leaves open: draws of
    dropout are a worker's own, and sums round in another order."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads of each worker's torch; None in older records."""
    model: dict[str, Json]
    """Name, revision, dtype, number of parameters, … as loaded."""
    data: dict[str, Json]
    """Fingerprint of the splits, duplicates removed, examples truncated, …"""


class MemoryFit(Document):
    """How much went through the model at once in the end, which is less than was asked for where memory did not
    suffice. It changes how sums round, and nothing else."""

    halvings: Count
    """How often the passes of a training step were halved."""
    evaluation_halvings: Count
    """How often the batches of an evaluation were halved."""
    gradient_checkpointing: bool
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Examples of one pass after the halvings; None where tokens are its limit."""
    micro_batch_tokens: int | None = Field(default=None, ge=1)


class TrialRecord(Document):
    schema_version: Literal[2] = SCHEMA_VERSION
    key: Key
    """Hash of the resolved configuration; also the name of the trial's folder."""
    label: str | None = None
    config: dict[str, Json]
    """The fully resolved TrialConfig."""
    status: Literal["completed", "stopped", "failed"]
    failure: Failure | None = None
    attempts: int = Field(ge=1)
    candidates: tuple[Candidate, ...] = ()
    """In order of their steps; cuts after what they were made from."""
    screened_cuts: tuple[ScreenedCut, ...] = ()
    """What became of all cuts that were asked for, those that were passed over or left out among them."""
    looks: tuple[Look, ...] = ()
    """What it was judged by on the way, in order of the steps; none in a sweep that stops no trials."""
    environment: Environment
    train_seconds: float = Field(ge=0.0)
    """Of the whole training, once for all of its candidates."""
    evaluation_seconds: float | None = Field(default=None, ge=0.0)
    """Of all evaluations, those of cuts that were passed over too; None in older records."""
    tokens_per_second: float | None = Field(default=None, ge=0.0)
    """Of training, branches included and padding not counted, of all workers together; None in older records, and where
    no step was done."""
    padding_share: float | None = Field(default=None, ge=0.0, lt=1.0)
    """How much of what went through the model in training was padding; None as for `tokens_per_second`."""
    layer_widths: dict[str, tuple[int, int]] | None = None
    """Full module name → (in_features, out_features) of every layer that a LoRA server holds a slot for: all linear
    ones of the base model outside of the head, adapted or not. None in older records, for full fine-tuning, and for
    bases whose layers cannot be told apart."""
    embedding_widths: dict[str, tuple[int, int]] | None = None
    """The same of the input and output embedding, which some servers adapt too."""
    fit: MemoryFit | None = None
    """None in older records, and where no training began."""

    @property
    def last_trained(self) -> Candidate | None:
        """The last candidate that is as it was trained: no cut. None where none was reached."""
        return next((each for each in reversed(self.candidates) if each.cut is None), None)

    def last_measured(self, objectives: Collection[str]) -> Candidate | None:
        """The last of those that are as they were trained for which these were measured (`Candidate.is_measured`)."""
        trained = (each for each in reversed(self.candidates) if each.cut is None)
        return next((each for each in trained if each.is_measured(objectives)), None)

    @property
    def stopped_at(self) -> Look | None:
        """The look after which it was stopped; None where it was not, or by another rule."""
        last = self.looks[-1] if self.looks else None
        is_stopped = last is not None and last.decision is not None and last.decision.stops
        return last if self.status == "stopped" and is_stopped else None

    def candidate(self, name: str) -> Candidate:
        """The candidate called `name` (Candidate.name). Raises KeyError, listing the names, when there is none."""
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(f"{name!r} is none of {', '.join(candidate.name for candidate in self.candidates) or 'none'}")

    @model_validator(mode="after")
    def _status_fits(self) -> Self:
        if (self.status == "failed") != (self.failure is not None):
            raise ValueError(f"a {self.status} trial {'needs a' if self.status == 'failed' else 'has no'} failure")
        if self.status == "completed" and not self.candidates:
            raise ValueError("a completed trial needs at least one candidate")
        order = [(candidate.step, candidate.cut is not None) for candidate in self.candidates]
        names = [candidate.name for candidate in self.candidates]
        if order != sorted(order) or len(set(names)) < len(names):
            raise ValueError(f"candidates must rise in step: {names}")
        return self


D = TypeVar("D", bound=Document)


def to_json(document: BaseModel) -> str:
    """Canonical JSON text of a document, ending in a newline. Raises ValueError on a number that is not finite."""
    return json.dumps(document.model_dump(mode="json"), sort_keys=True, allow_nan=False, indent=1) + "\n"


def from_json(kind: type[D], text: str, path: str) -> D:
    """The document in `text`, which may be of schema 1. Raises RecordError, naming `path`, when it is broken or newer
    than this package."""
    try:
        document = kind.model_validate_json(text)
    except ValidationError as error:
        return _older(kind, text, path, error)
    if "schema_version" in kind.model_fields and "schema_version" not in document.model_fields_set:
        return _older(kind, text, path, None)
    return document


def _older(kind: type[D], text: str, path: str, error: ValidationError | None) -> D:
    """The document in `text`, which is not one of this schema (None: it does not say which it is of)."""
    content = json_object(text, path)
    version = content.get("schema_version", OLD_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema_version {version} is newer than {SCHEMA_VERSION}, the newest that this prunedlora "
            "reads; upgrade prunedlora"
        ) from error
    if version == OLD_VERSION and "schema_version" in kind.model_fields:
        try:
            return kind.model_validate_json(json.dumps(upgraded(kind.__name__, content, SCHEMA_VERSION)))
        except UpgradeError as wrong:
            raise RecordError(f"{path}: not a valid {kind.__name__}: {wrong}") from wrong
        except ValidationError as wrong:
            error = wrong
    assert error is not None
    raise RecordError(f"{path}: not a valid {kind.__name__}: {_problems(error)}") from error


def json_object(text: str, path: str) -> dict[str, Any]:
    """The JSON object in `text`. Raises RecordError, naming `path`, when it is anything else."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, Mapping):
        raise RecordError(f"{path}: not a JSON object but a {type(content).__name__}")
    return dict(content)


def _problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors())
