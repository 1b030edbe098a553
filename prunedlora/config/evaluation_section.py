"""How candidates are measured."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from prunedlora.config.metric_names import is_harness
from prunedlora.config.section import Section
from prunedlora.metric_kinds import figure_name


def _number_or_share(limit: float | None) -> float | None:
    if limit is not None and not (0 < limit < 1 or (limit >= 1 and isinstance(limit, int))):
        raise ValueError(f"{limit!r} is neither a whole number from 1 nor a share below 1")
    return limit


class HarnessConfig(Section):
    """How lm-evaluation-harness measures; its own defaults but for the batch size."""

    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    """Examples in the prompt; None: each task's own number."""
    limit: Annotated[int | float | None, AfterValidator(_number_or_share)] = None
    """Documents of each task: the first n, or their share below 1; None takes all."""
    batch_size: PositiveInt = 8
    """Requests per forward pass and worker; halved where memory does not suffice."""
    unsafe_code: bool = False
    """Allow tasks that run code which the model writes. Off unless asked for by name."""
    apply_chat_template: bool = False
    """Write every prompt out by the chat template, examples in it as turns of their own, as `lm_eval
    --apply_chat_template` does: by that of data.chat_template where it is a file, with data.chat_template_kwargs, else
    by the tokenizer's."""
    system_instruction: str | None = Field(default=None, min_length=1)
    """What stands before every prompt; with apply_chat_template the system's turn, or its beginning."""


class EvaluationConfig(Section):
    metric: Annotated[str, Field(min_length=1)]
    """accuracy, balanced_accuracy, macro_f1 or matthews (classification), exact_match, final_number, verifier, rouge_l
    or token_f1 (generation), loss (either); a function of your own, `path/to/metrics.py:score` (either): called as
    score(answer, example) with the generated answer, or the predicted class, and a dict of the example's prompt,
    target, score_columns and, for conversations, messages and tools; it gives a number from 0 to 1, and its figure has
    the function's name; or a figure of one of the `harness_tasks`, as harness/arc_easy/acc_norm or
    harness/gsm8k/exact_match,strict-match (generation)."""
    milestones: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(default=[])
    """Progress values at which an adapter is evaluated and kept, besides the end."""
    max_examples: PositiveInt | None = None
    """Validation examples used (the first of the split); None uses all."""
    batch_size: PositiveInt = 64
    """Examples per forward pass and worker; halved where memory does not suffice."""
    max_new_tokens: PositiveInt | None = None
    """Longest generated answer in tokens; needed by metrics that generate, refused otherwise."""
    generate: Literal["all", "may_matter"] | None = None
    """Of metrics that generate, the candidates for which answers are generated. all: every one. may_matter: those that
    may be on the front; of the others, which a candidate that is no larger on any axis of size clearly beats in loss on
    the same examples, the loss alone is measured, and the record names who beats them. The end of a training without a
    ladder and full fine-tuning are always generated for. None: may_matter with a ladder or with cuts, of which one
    training has many candidates; all elsewhere."""
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    """Texts at which a generated answer ends, before the first of them, besides the model's own end: base models go on
    with another question. Only for metrics that generate."""
    harness_tasks: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    """lm-evaluation-harness tasks for the adapter at the end of the training, and for the base model: names, a task's
    file (`path/to/task.yaml`), or a folder of such files. Recorded as `harness/<task>/<metric>`. Of free cuts nothing
    is measured, but for those of method svd, which are what it comes to. Where `metric` is one of their figures, they
    are measured for every candidate."""
    harness: HarnessConfig | None = None
    """How harness_tasks are measured; None: by HarnessConfig's defaults."""

    @property
    def figure(self) -> str:
        """What the metric's figures are called."""
        return figure_name(self.metric)

    @property
    def chosen_by_harness(self) -> bool:
        """Whether lm-evaluation-harness gives the quality: its documents are then what validation is made of."""
        return is_harness(self.metric)

    @property
    def task_metric(self) -> str:
        """What the task scores the validation examples by; their loss alone where the harness gives the quality."""
        return "loss" if self.chosen_by_harness else self.metric

    @model_validator(mode="after")
    def _rising_milestones(self) -> Self:
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise: {self.milestones}")
        return self

    @model_validator(mode="after")
    def _different_stop_texts(self) -> Self:
        stop = self.stop or []
        if len(set(stop)) < len(stop):
            raise ValueError(f"stop names a text twice: {stop}")
        return self

    @model_validator(mode="after")
    def _harness_has_tasks(self) -> Self:
        tasks = self.harness_tasks or []
        if self.harness is not None and not tasks:
            raise ValueError("harness has no effect without harness_tasks; remove it")
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"harness_tasks names a task twice: {', '.join(tasks)}")
        return self
