"""What a plan says: how much is to be done, and how long that takes, of what, for how much."""

from collections.abc import Iterator, Sequence

from prunedlora.config.stopping_section import StoppingConfig
from prunedlora.results.analysis.plan_document import MeasuredSpeed, PlanDocument
from prunedlora.results.figure_text import bytes_text, counted, seconds_text
from prunedlora.sweep.estimate import Group, total

NEARLY_ALL = 1.02
"""Times what is expected: a limit no further away needs no line of its own."""


def amount_lines(groups: Sequence[Group]) -> list[str]:
    """A line for the whole sweep, and one where the search may ask for trainings that differ: then means count."""
    if not groups:
        return []
    tokens, positions = (total(groups, lambda a: a.tokens), total(groups, lambda a: a.positions))
    padding = f" ({1 - tokens / positions:.0%} of what passes is padding beside them)" if positions else ""
    parts = [
        counted(sum(group.number for group in groups), "training"),
        f"{total(groups, lambda a: a.num_candidates):,.0f} candidates at most",
        f"{total(groups, lambda a: a.num_steps):,.0f} steps",
        f"{total(groups, lambda a: a.cost.examples_trained):,.0f} examples",
        f"{_count(tokens)} tokens trained{padding}",
        f"{total(groups, lambda a: a.examples_evaluated):,.0f} validation examples for loss",
    ]
    if answers := total(groups, lambda a: a.num_answers):
        parts.append(f"{answers:,.0f} answers generated at most")
    if documents := total(groups, lambda a: a.cost.num_by_harness * a.cost.num_documents):
        parts.append(f"{documents:,.0f} documents of harness tasks")
    lines = [f"In all: {', '.join(parts)}"]
    steps = {each.num_steps for each in groups[-1].amounts}
    if len(steps) > 1:
        lines.append(f"A training of the search has {min(steps):,} to {max(steps):,} steps: counted with their mean")
    return lines


def stopping_line(stopping: StoppingConfig, groups: Sequence[Group]) -> str:
    """Where trials of the search are looked at, by what, and what becomes of those that are left behind."""
    steps = {each.num_steps for each in groups[-1].amounts} if groups else set()
    if len(steps) == 1 and stopping.looks:
        (num_steps,) = steps
        near = ", ".join(f"{round(share * num_steps):,}" for share in stopping.looks)
        where = f"near step {near} of {num_steps:,}, and at its candidates on the way,"
    elif stopping.looks:
        shares = ", ".join(f"{share:.3g}" for share in stopping.looks)
        where = f"after {shares} of its steps, and at its candidates on the way,"
    else:
        where = "where it has candidates on the way,"
    examples = (
        "all validation examples" if stopping.examples is None else f"at most {stopping.examples:,} validation examples"
    )
    then = (
        "ends, and its candidates count"
        if stopping.then == "stop"
        else "pauses with a checkpoint, and is judged again when nothing is left to ask"
    )
    return (
        f"Stopping: a trial of the search is looked at {where} by its loss on {examples}; one that is left behind "
        f"{then}"
    )


def estimate_lines(
    plan: PlanDocument,
    groups: Sequence[Group],
    *,
    price_per_hour: float | None,
    max_device_hours: float | None,
    has_looks: bool = False,
) -> Iterator[str]:
    """What it takes by measured speeds. `groups`: the plan's own; `has_looks`: whether the sweep stops trials."""
    yield from (_speed(speed) for speed in plan.speeds)
    a_training = plan.device_seconds / plan.num_trainings
    slots = counted(plan.num_slots, "slot")
    yield f"Time: about {seconds_text(plan.wall_seconds)} on {slots}, start of the slots and loading included"
    most = plan.most_seconds * plan.devices_per_slot
    bound = f"; at most {_hours(most)}, were the search to ask for the longest alone"
    yield (
        f"Device hours: about {_hours(plan.device_seconds)} (training "
        f"{_hours(plan.train_seconds * plan.devices_per_slot)}, measuring candidates "
        f"{_hours(plan.evaluation_seconds * plan.devices_per_slot)}), {_hours(a_training)} a training"
        f"{bound if most > NEARLY_ALL * plan.device_seconds else ''}; {_hours(plan.held_seconds)} until the last slot "
        "ends, what slots wait included"
    )
    yield (
        f"Memory: {bytes_text(max(speed.peak_bytes for speed in plan.speeds))} a worker, at its largest ranks and by "
        "the batches that were measured"
    )
    if price_per_hour is not None:
        price = plan.held_seconds / 3600 * price_per_hour
        yield f"Price: about {price:,.2f} at {price_per_hour:g} per device hour, for as long as slots hold devices"
    if max_device_hours is not None:
        num = num_within(plan, max_device_hours * 3600)
        yield f"max_device_hours {max_device_hours:g}: {num:,} of {counted(plan.num_trainings, 'training')} fit"
    parts = ["the base model's evaluation", "test figures", "trainings that fail"]
    if has_looks:
        parts.append("the looks by which trials are stopped")
    if any(group.amounts[0].cost.num_cuts for group in groups):
        parts.append("making cuts")
    if any(amount.cost.num_documents for group in groups for amount in group.amounts):
        parts.append("documents of harness tasks")
    yield f"Not counted: {', '.join(parts)}; what is stopped early, judged by loss or passed over takes less"


def num_within(plan: PlanDocument, device_seconds: float) -> int:
    """How many trainings of the mean length fit into so many device seconds."""
    a_training = plan.device_seconds / plan.num_trainings
    return min(plan.num_trainings, int(device_seconds / a_training + 1e-9))


def _speed(speed: MeasuredSpeed) -> str:
    answers = "" if speed.answer_seconds is None else f", {_short(speed.answer_seconds)} an answer"
    method, _, _ = speed.kind.partition(" on ")
    return (
        f"Speed of {method} on {speed.device}: {_short(speed.step_seconds)} a step (median of {speed.num_steps}), "
        f"{_short(speed.example_seconds)} a validation example{answers}, {_short(speed.export_seconds)} an export; "
        f"loading {_short(speed.loading_seconds)}"
    )


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.3g}"


def _count(number: float) -> str:
    """Three digits."""
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"
