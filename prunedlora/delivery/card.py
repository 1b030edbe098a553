"""What goes with an exported adapter: a model card for the Hub."""

from collections.abc import Mapping

from prunedlora.adapters.export import LABELS_FILE
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.base_words import shown_name
from prunedlora.delivery.card_front import front_matter
from prunedlora.delivery.certificate import CERTIFICATE_FILE, UNTESTED
from prunedlora.delivery.class_names import recorded_labels
from prunedlora.delivery.form import Form
from prunedlora.delivery.origin import origin_sentences
from prunedlora.delivery.recorded_answers import answers_sentence
from prunedlora.delivery.recorded_chat import chat_sentence
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.serving_text import serving_text
from prunedlora.delivery.snippet import snippet
from prunedlora.registry import lookup
from prunedlora.results.analysis.harness_quality import spent_text
from prunedlora.results.analysis.trainings import is_untrained
from prunedlora.results.figure_text import bytes_text, figure_text
from prunedlora.results.record import Candidate, Figure, TrialRecord
from prunedlora.results.report.told import Told
from prunedlora.results.rung_text import made_text
from prunedlora.results.share_text import record_share_text

CARD_FILE = "README.md"


def card(
    record: TrialRecord,
    candidate: Candidate,
    test: Mapping[str, Figure],
    form: Form,
    began: Mapping[str, Figure] = UNTESTED,
    told: Told | None = None,
    file_bytes: int | None = None,
    hub: str | None = None,
) -> str:
    """A model card: front matter as the Hub reads it, then the same for people. As `certificate`. `file_bytes`: size of
    its file or files of weights; None: as it was trained."""
    config = recorded_trial(record)
    task = lookup("task", config.data.task)
    metric = config.evaluation.figure
    if config.evaluation.chosen_by_harness or metric not in {**test, **candidate.figures}:
        metric = "loss"  # the documents of the harness were chosen by; or its loss was too bad for more to be measured
    split, figure = ("test", test[metric]) if metric in test else ("validation", candidate.figures[metric])
    data = front_matter(config, f"{record.key}@{candidate.name}", form, task.auto_model, metric, split, figure)
    base = shown_name(config.model.name, hub)
    title = f"{base} with a LoRA adapter merged in" if form.merged else f"LoRA adapter for {base}"
    head = f", beside a task head of {candidate.head_params:,}" if candidate.head_params else ""
    changed = f" Here {form.sentence()}." if form.sentence() else ""
    idle = " It does nothing: on the examples that were checked the logits are the same without it."
    if candidate.certificate is None or candidate.certificate.get("max_logit_change") != 0:
        idle = ""
    share, made = record_share_text(record), made_text(record, candidate)
    untrained = is_untrained(record)
    adapts = "" if share is None else f"\n\n{'It' if untrained else 'The training'} {share}."
    once, when = ("", "") if untrained else (", one training run", f", after step {candidate.step:,}")
    chosen = told is not None and told.is_chosen and split == "validation" and not config.evaluation.chosen_by_harness
    by_it = ", by which its sweep chose," if chosen else ""
    size = bytes_text(candidate.file_bytes if file_bytes is None else file_bytes)
    file = (
        f"a model of {size}"
        if form.merged
        else f"in a file of {size}{' with its head' if candidate.head_params else ''}"
    )
    standing = "" if told is None else f"\n\n{' '.join(told.sentences)}"
    ranks = "\n".join(f"| `{name}` | {rank} |" for name, rank in sorted(candidate.ranks.items()) if rank)
    return f"""---
{data.to_yaml()}
---

# {title}

{metric} {figure_text(figure)} on the {split} split{by_it} ({figure.num_examples:,} examples{once}).\
{_by_harness(config, candidate)}
{candidate.adapter_params:,} parameters in A and B ({bytes_text(candidate.adapter_bytes)} as trained), largest rank \
{candidate.max_rank}{head}, {file}.{idle}{changed}{adapts}{standing}

Found by a sweep of [prunedlora](https://arxiv.org/abs/2510.00192): trial `{record.key}`, method \
`{config.method}`{when}{made and f": {made}"}.{_scaling(form)}\
{origin_sentences(record, candidate, metric, test, began)}

{_code(record, config, task.auto_model, form, hub)}{_classes(record, form)}{_chat(record, form)}
## Servers

{serving_text(record, candidate, form, hub)}

## Ranks

| layer | rank |
|---|---|
{ranks}

`{CERTIFICATE_FILE}` says what was checked, with the whole configuration.
"""


def _code(record: TrialRecord, config: TrialConfig, auto_model: str, form: Form, hub: str | None) -> str:
    """Python that uses it, as a block with its line end; nothing for a GGUF file, which PEFT does not read."""
    if form.gguf:
        return ""
    return f"```python\n{snippet(record, config, auto_model, merged=form.merged, hub=hub)}\n```\n"


def _by_harness(config: TrialConfig, candidate: Candidate) -> str:
    """What lm-evaluation-harness gave where it was chosen by that, as sentences that follow; else empty."""
    name = config.evaluation.figure
    if not config.evaluation.chosen_by_harness or name not in candidate.figures:
        return ""
    figure = candidate.figures[name]
    return f" {name} {figure_text(figure)} ({figure.num_examples:,} documents). {spent_text(name)}"


def _classes(record: TrialRecord, form: Form) -> str:
    """The classes in the order of the logits; nothing for a task without."""
    labels = recorded_labels(record)
    if labels is None:
        return ""
    named = ", ".join(f"{number} `{label}`" for number, label in enumerate(labels))
    where = "`config.json`" if form.merged else f"`{LABELS_FILE}`, which goes with the adapter"
    return f"\nClasses, in the order of the logits: {named}. They are in {where}.\n"


def _chat(record: TrialRecord, form: Form) -> str:
    """How conversations are written out and answers generated; nothing for a task without."""
    sentences = [sentence for sentence in (chat_sentence(record, form), answers_sentence(record, form)) if sentence]
    return f"\n{' '.join(sentences)}\n" if sentences else ""


def _scaling(form: Form) -> str:
    """Where the scaling of its updates is, as a sentence that follows; nothing for a whole model."""
    if form.merged:
        return ""
    if form.gguf:
        return " The scaling is folded into B, and the file says so (alpha 0): every layer is applied as it is."
    return " The scaling is folded into B: the update of a layer is B A. What servers multiply it by is told below."
