"""Facts of a model and of data → a sweep as plain data, with a comment at each decision: what it goes by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunedlora.sweep import init_settings as settings
from prunedlora.sweep.init_facts import DataFacts, Lengths
from prunedlora.sweep.init_model import POOLER, ModelFacts
from prunedlora.sweep.init_settings import Course

Place = tuple[str, ...]
Notes = dict[Place, list[str]]
SCALE = "https://arxiv.org/abs/2312.03732"
RATES = "https://thinkingmachines.ai/blog/lora/"
NUM_TRIALS = 8
WITHIN_LOSS = 0.02
GIGA = 1e9


@dataclass(frozen=True)
class Draft:
    """A sweep file before it is written."""

    tree: Mapping[str, Any]
    """Values that are the defaults are left out."""
    notes: Mapping[Place, list[str]]
    """Keys down to an entry → the paragraphs of the comment above it; () above all."""


@dataclass(frozen=True)
class _Judged:
    """How candidates are measured."""

    metric: str
    why: str
    max_new_tokens: int | None = None


def draft(name: str, storage: str, model: ModelFacts, data: DataFacts, *, has_gpu: bool) -> Draft:
    """The sweep for them: a ladder, so that each training leaves adapters of several sizes, beside plain LoRA."""
    rank = settings.initial_rank(model.num_params)
    rate = settings.learning_rate(model.family, model.hidden_size, rank)
    course = settings.course(data.num_train, model.num_params, has_gpu=has_gpu)
    judged = _judged(data)
    notes: Notes = {(): _head(name, model, data)}
    tree: dict[str, Any] = {
        "name": name,
        "storage": storage,
        "objectives": {
            judged.metric: "minimize" if judged.metric == "loss" else "maximize",
            "adapter_params": "minimize",
        },
        "num_trials": NUM_TRIALS,
    }
    notes["objectives",] = [
        judged.why,
        "Are adapters above a limit of no use? Say it: `constraints: {adapter_params: 2.0e+6, served_slot: 16}`.",
    ]
    notes["num_trials",] = ["Each is a whole ladder: a few do. More of them look closer."]
    if judged.metric == "loss":
        tree["recommend_within"] = WITHIN_LOSS
        notes["recommend_within",] = [
            "Recommended is the smallest adapter whose loss is at most so much above the best's."
        ]
    if has_gpu:
        tree["resources"] = {"gpus_per_worker": 1}
        notes["resources",] = [
            "0.25 puts four trainings side by side on one GPU, where a small model leaves most of it idle."
        ]
    tree["trial"] = {
        "model": dict(model.section),
        "data": _data(data, judged, model, notes),
        "adapter": _adapter(rank, model, notes),
        "pruning": _pruning(rank, model, notes),
        "optimizer": {"learning_rate": rate} | ({"head_learning_rate": _head_rate(rate)} if model.heads else {}),
        "training": _training(course, data, judged, model, notes, has_gpu=has_gpu),
        "evaluation": _evaluation(data, judged, notes),
    }
    notes["trial", "model"] = _model(model, has_gpu=has_gpu)
    rates = settings.baseline_rates(rate)
    tree["baselines"] = [_baseline(rank, each) for rank in settings.BASELINE_RANKS for each in rates]
    notes["baselines",] = [
        f"Plain LoRA stands beside, as long as a ladder, each rank at {len(rates)} rates of the range that is "
        "searched: a ladder is set against the best of them. That is a coarser choice than the search has; `prunedlora "
        "compare STORE --by label` sets them beside each other."
    ]
    tree["space"] = {
        "optimizer.learning_rate": {"log_uniform": settings.rate_range(rate)},
        "adapter.initial_rank": {"choice": [rank // 2, rank, rank * 2]},
        "pruning.schedule.trunk": {"uniform": [0.4, 0.7]},
    }
    _space_notes(notes, rate, rank, model)
    return Draft(tree, notes)


def _judged(data: DataFacts) -> _Judged:
    if data.classes is not None:
        metric = settings.metric_of_classes(data.classes)
        largest = max(data.classes, key=lambda name: data.classes[name] if data.classes is not None else 0)
        share = data.classes[largest] / sum(data.classes.values())
        if metric == "accuracy":
            return _Judged(
                metric, f"{len(data.classes)} classes, the largest has {share:.0%} of the examples: accuracy."
            )
        return _Judged(
            metric, f"{largest!r} is {share:.0%} of the examples, which accuracy would reward by itself: macro_f1 "
            "counts every class alike."
        )  # fmt: skip
    assert data.answers is not None
    if not data.has_prompts:
        return _Judged("loss", "Plain text, of which all is learnt: there are no answers to score.")
    if data.has_final_numbers:
        most = settings.rounded_up(1.25 * data.answers.p99, 16)
        return _Judged("final_number", "Answers state a number behind ####: it is compared by its value.", most)
    if data.answers.p99 <= settings.LONG_ANSWER:
        most = settings.rounded_up(min(data.answers.longest, 4 * data.answers.p99) + 1, 8)
        return _Judged(
            "exact_match", f"Answers are short ({_told(data.answers)}): generated, and right or wrong.", most
        )
    return _Judged(
        "loss", f"Answers are long ({_told(data.answers)}): judged by their loss. Where a text can be scored, rouge_l, "
        "token_f1 or a function of your own (path/to/metrics.py:score) in the place of loss, with max_new_tokens."
    )  # fmt: skip


def _head(name: str, model: ModelFacts, data: DataFacts) -> list[str]:
    blocks = f", {model.num_layers} blocks" if model.num_layers else ""
    measured = "" if data.num_measured == data.num_train + data.num_validation else f" of {data.num_measured:,} of them"
    return [
        f"{name}, made by `prunedlora init`: everything here is a suggestion that you may change.",
        f"Model: {model.kind}, {model.num_params:,} parameters{blocks}, hidden size {model.hidden_size:,}.",
        f"Data: {data.num_train:,} training examples, {data.num_validation:,} for validation, {data.num_test:,} for "
        f"the test. Lengths{measured}: {_told(data.lengths)}.",
        "Look at it with `prunedlora show-data`, check it with `prunedlora search --dry-run`, run it with `prunedlora "
        "search`, each with this file behind.",
    ]


def _told(lengths: Lengths) -> str:
    return f"median {lengths.median:,} tokens, 99% at most {lengths.p99:,}, longest {lengths.longest:,}"


def _model(model: ModelFacts, *, has_gpu: bool) -> list[str]:
    kind = "bfloat16 on a GPU (float16 or float32 as dtype)" if has_gpu else "float32 on a CPU"
    lines = [f"Computed in {kind}."]
    if model.num_params >= settings.QUANTIZED:
        full, small = 2 * model.num_params / GIGA, model.num_params / 2 / GIGA
        beside = "" if has_gpu else " It needs a GPU."
        lines.append(
            f"Weights take {full:.0f} GB in bfloat16; `quantization: nf4` beside the name takes about {small:.0f} GB."
            f"{beside}"
        )
    return lines


def _data(data: DataFacts, judged: _Judged, model: ModelFacts, notes: Notes) -> dict[str, Any]:
    section = dict(data.section)
    place = ("trial", "data")
    other = "generation" if data.classes is not None else "text_classification"
    notes[place] = [
        f"Recognised: {data.recognised.words}. Is it something else? `prunedlora init` takes --task {other}, --prompt "
        "and --target, or --format."
    ]
    template = section.get("chat_template")
    if template == "tokenizer":
        notes[*place, "chat_template"] = [
            "Prompt and target become a user's and the assistant's turn, as the model knows them."
        ]
    elif template == "none":
        notes[*place, "chat_template"] = [
            "The model's tokenizer has no chat template: conversations are read as plain text."
        ]
    if "num_validation" in section or "num_test" in section:
        first = "num_validation" if "num_validation" in section else "num_test"
        notes[*place, first] = [
            "Cut from the training examples: the search sees validation alone, the test split is for the end."
        ]
    room = judged.max_new_tokens or 0
    p99, longest = data.lengths.p99, data.lengths.longest
    if data.asked is not None and room:
        p99, longest = max(p99, data.asked.p99 + room), max(longest, data.asked.longest + room)
    limit = settings.max_length(p99, longest, model.limit)
    if limit is not None:
        section["max_length"] = limit
        cut = "nothing that was measured is cut" if longest <= limit else "about one example in a hundred is cut"
        beside = f", with room for {room} generated" if room else ""
        notes[*place, "max_length"] = [f"{_told(data.lengths)[:1].upper()}{_told(data.lengths)[1:]}{beside}: {cut}."]
    return section


def _adapter(rank: int, model: ModelFacts, notes: Notes) -> dict[str, Any]:
    place = ("trial", "adapter")
    section: dict[str, Any] = {"initial_rank": rank, "alpha": settings.ALPHA, "use_rslora": True}
    notes[place] = [
        f"Every linear layer begins with {rank} components. rsLoRA ({SCALE}) divides by the root of the rank, so that "
        "one range of learning rates serves all ranks."
    ]
    if model.heads:
        section["head_modules"] = list(model.heads)
        pooler = (
            " The pooler before it, which models that retrieve leave untrained, learns too."
            if POOLER in model.heads
            else ""
        )
        notes[*place, "head_modules"] = [f"The head of the classes is new: it is trained whole.{pooler}"]
    return section


def _pruning(rank: int, model: ModelFacts, notes: Notes) -> dict[str, Any]:
    notes["trial", "pruning"] = [
        "A ladder: the first half of the steps trains the whole adapter, then each rung removes components of all "
        "layers, those that matter least to the loss for their parameters, and trains on. Each leaves an adapter. "
        "Sizes are mean ranks, fractions included, since layers may lose all of theirs. Measured of such ladders: "
        "jobs/results/README.md of the repository."
    ]
    sizes = settings.rungs(rank, model.widths)
    return {
        "basis": "whitened",
        "allocation": "global_per_parameter",
        "min_rank": 0,
        "schedule": {
            "name": "ladder",
            "rungs": {"mean_rank": [int(size) if size.is_integer() else size for size in sizes]},
        },
    }


def _training(
    course: Course, data: DataFacts, judged: _Judged, model: ModelFacts, notes: Notes, *, has_gpu: bool
) -> dict[str, Any]:
    section: dict[str, Any] = {"num_steps": course.num_steps, "batch_size": course.batch_size}
    notes["trial", "training"] = [
        f"{course.passes(data.num_train):.2g} passes over {data.num_train:,} examples, shared by trunk and rungs. "
        "Where the first sizes are still learning, longer is better."
    ]
    most = settings.pass_tokens(model.num_params, has_gpu=has_gpu)
    if course.batch_size * data.lengths.p99 > most:
        section["micro_batch_tokens"] = most
        notes["trial", "training", "micro_batch_tokens"] = [
            "What a forward pass takes, padding included; halved by itself where memory does not suffice."
        ]
    return section


def _evaluation(data: DataFacts, judged: _Judged, notes: Notes) -> dict[str, Any]:
    section: dict[str, Any] = {"metric": judged.metric}
    if judged.max_new_tokens is not None:
        section["max_new_tokens"] = judged.max_new_tokens
    most = settings.MOST_EVALUATED * (2 if data.classes is not None else 1)
    if data.num_validation > most:
        section["max_examples"] = most
    evaluated = min(most, data.num_validation)
    few = " Few: differences below a few points cannot be told." if evaluated < 400 else ""
    notes["trial", "evaluation"] = [
        f"{evaluated:,} validation examples: one of them is {1 / evaluated:.2%} of a score.{few}"
        if judged.metric != "loss" else f"{evaluated:,} validation examples."
    ]  # fmt: skip
    return section


def _baseline(rank: int, rate: float) -> dict[str, Any]:
    plain: dict[str, Any] = {"adapter.method": "rslora", "adapter.initial_rank": rank, "pruning": None}
    return {"label": f"LoRA of rank {rank}, rate {rate:g}", **plain, "optimizer.learning_rate": rate}


def _head_rate(rate: float) -> float:
    """A new layer learns from nothing, and with a rate below the adapter's it stays behind."""
    return settings.two_digits(2 * rate)


def _space_notes(notes: Notes, rate: float, rank: int, model: ModelFacts) -> None:
    family = "Qwen" if model.family.startswith("qwen") else "Llama"
    like = "" if model.family.startswith(("qwen", "llama")) else f" (of {model.family} nothing is published)"
    notes["space",] = [
        "What the search varies; the learning rate decides most. Other fields of `trial` may be added by their path."
    ]
    notes["space", "optimizer.learning_rate"] = [
        f"A third to three times {rate:.2g}: LoRA's best rate is about ten times that of full fine-tuning, and falls "
        f"with the hidden size as it does for {family}{like}, {RATES}; here brought to the scaling above at "
        f"rank {rank}. `prior: {rate:.2g}` in this entry has it tried first."
    ]
