"""What goes with an exported adapter: a model card for the Hub, and a certificate of what was checked."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from prunedlora.adapters.export import CONFIG_NAME, LABELS_FILE
from prunedlora.config.identity import looks_local
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.class_names import recorded_labels
from prunedlora.delivery.form import Form
from prunedlora.delivery.origin import origin_document, origin_sentences
from prunedlora.delivery.recorded_answers import answers_sentence
from prunedlora.delivery.recorded_chat import CHAT_FACT, chat_sentence
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.servers import servers, servers_sentence
from prunedlora.delivery.snippet import serve_name, snippet
from prunedlora.registry import lookup
from prunedlora.results.analysis.harness_quality import spent_text
from prunedlora.results.analysis.trainings import is_untrained
from prunedlora.results.figure_text import bytes_text, figure_text
from prunedlora.results.record import Candidate, Figure, TrialRecord
from prunedlora.results.report.told import Told
from prunedlora.results.rung_text import made_text
from prunedlora.results.share_text import record_share_text
from prunedlora.servers.served_slot import HALF_BYTES, slot_bytes

CARD_FILE = "README.md"
CERTIFICATE_FILE = "certificate.json"
UNTESTED: Mapping[str, Figure] = MappingProxyType({})
PIPELINE_TAGS = {"AutoModelForCausalLM": "text-generation", "AutoModelForSequenceClassification": "text-classification"}


def vllm_problems(folder: Path) -> list[str]:
    """Why vLLM would refuse an adapter folder; empty when it would not.

    What its PEFTHelper checks, and the slots it offers (https://docs.vllm.ai/en/latest/features/lora.html).
    """
    config = json.loads((folder / CONFIG_NAME).read_text("utf-8"))
    problems = []
    if config.get("modules_to_save"):
        problems.append(f"it carries a head of its own (modules_to_save {config['modules_to_save']})")
    if config.get("bias", "none") != "none":
        problems.append(f"it carries biases of its own (bias {config['bias']!r})")
    if config.get("use_dora"):
        problems.append("it is no plain LoRA (use_dora)")
    return problems


def vllm_flags(slot: int | None) -> str | None:
    """What `vllm serve` needs for an adapter in this slot; None when no slot holds it."""
    return None if slot is None else f"--enable-lora --max-lora-rank {slot} --max-loras 1"


def vllm_slot_bytes(record: TrialRecord, slot: int | None) -> int | None:
    """GPU memory of the slot (served_slot.py); None when no slot holds the adapter or the record does not say."""
    return None if slot is None or record.layer_widths is None else slot_bytes(record.layer_widths, slot, HALF_BYTES)


def certificate(
    record: TrialRecord,
    candidate: Candidate,
    checks: dict[str, Any],
    folder: Path,
    form: Form,
    test: Mapping[str, Figure] = UNTESTED,
    began: Mapping[str, Figure] = UNTESTED,
    told: Told | None = None,
) -> dict[str, Any]:
    """What is known of an exported adapter, as plain JSON data. `folder`: the adapter as it was trained; `test` and
    `began`: figures on the test split, of it and of the adapter that its training began with; `told`: what the
    decision of its sweep says of it, None where that does not know it."""
    refused = [] if form.merged else vllm_problems(folder)
    slot = None if form.merged else form.slot_of(candidate)
    return {
        "candidate": f"{record.key}@{candidate.name}",
        "rung": candidate.rung,
        "branch_steps": candidate.branch_steps,
        "cut": None if candidate.cut is None else candidate.cut.model_dump(),
        "origin": origin_document(record, candidate, began),
        "form": asdict(form),
        "checks": checks,
        "figures": {name: figure.model_dump() for name, figure in sorted(candidate.figures.items())},
        "test": {name: figure.model_dump() for name, figure in sorted(test.items())},
        "decision": None if told is None else told.document,
        "ranks": candidate.ranks,
        "adapter_params": candidate.adapter_params,
        "head_params": candidate.head_params,
        "max_rank": candidate.max_rank,
        "served_slot": slot,
        "served_slot_bytes": vllm_slot_bytes(record, slot),
        "vllm": {"flags": None if refused else vllm_flags(slot), "refuses": refused},
        "chat": record.environment.data.get(CHAT_FACT),
        "servers": None if form.merged else servers(record, candidate, form, refused),
        "config": record.config,
        "environment": record.environment.model_dump(mode="json"),
    }


def card(
    record: TrialRecord,
    candidate: Candidate,
    test: Mapping[str, Figure],
    folder: Path,
    form: Form,
    began: Mapping[str, Figure] = UNTESTED,
    told: Told | None = None,
    file_bytes: int | None = None,
) -> str:
    """A model card: front matter as the Hub reads it, then the same for people. As `certificate`. `file_bytes`: size of
    its file or files of weights; None: as it was trained."""
    config = recorded_trial(record)
    task = lookup("task", config.data.task)
    metric = config.evaluation.figure
    if config.evaluation.chosen_by_harness or metric not in {**test, **candidate.figures}:
        metric = "loss"  # the documents of the harness were chosen by; or its loss was too bad for more to be measured
    split, figure = ("test", test[metric]) if metric in test else ("validation", candidate.figures[metric])
    pipeline = PIPELINE_TAGS[task.auto_model]
    datasets = _dataset_names(config, split)
    data = ModelCardData(
        base_model=_hub_name(config.model.name),
        library_name="transformers" if form.merged else "peft",
        pipeline_tag=pipeline,
        tags=["lora", "prunedlora"],
        model_name=f"{record.key}@{candidate.name}",
        eval_results=[
            EvalResult(
                task_type=pipeline,
                dataset_type=datasets,
                dataset_name=datasets,
                dataset_split=split,
                metric_type=metric,
                metric_value=figure.value,
            )
        ],
    )
    base = config.model.name
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
`{config.method}`{when}{made and f": {made}"}. The scaling is folded into B.\
{origin_sentences(record, candidate, metric, test, began)}

```python
{snippet(record, config, task.auto_model, merged=form.merged)}
```
{_classes(record, form)}{_chat(record, form)}
{_serving(record, candidate, folder, form)}

| layer | rank |
|---|---|
{ranks}

`{CERTIFICATE_FILE}` says what was checked, with the whole configuration.
"""


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


def _dataset_names(config: TrialConfig, split: str) -> str:
    """All sources of the split that a figure is from: train's, where it is cut from them."""
    sources = config.data.sources(split) or config.data.sources("train")
    return " + ".join(dict.fromkeys(source.name for source in sources))


def _hub_name(model: str) -> str | None:
    """The base model where the Hub knows it; it refuses a card that names another one."""
    return None if model.startswith("package:") or looks_local(model) else model


def _serving(record: TrialRecord, candidate: Candidate, folder: Path, form: Form) -> str:
    """Which loaders apply it as it was trained, and how to serve it, or why vLLM would not."""
    if form.merged:
        return "It is a whole model and is served like its base, without any flags for adapters."
    found = servers(record, candidate, form, vllm_problems(folder))
    return f"{_vllm(record, candidate, folder, form)}\n\n{servers_sentence(found, form)}"


def _vllm(record: TrialRecord, candidate: Candidate, folder: Path, form: Form) -> str:
    if refused := vllm_problems(folder):
        return f"vLLM would refuse it, since {'; '.join(refused)}."
    fitting = form.slot_of(candidate)
    if (flags := vllm_flags(fitting)) is None:
        return "No slot of vLLM holds its largest rank."
    model, memory = recorded_trial(record).model, vllm_slot_bytes(record, fitting)
    base = serve_name(model.name, model.revision)
    slot = "" if memory is None else f". Its slot takes {bytes_text(memory)} of GPU memory, in half precision."
    return f"vLLM: `vllm serve {base} {flags} --lora-modules NAME=PATH`{slot}"
