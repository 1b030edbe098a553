"""What shrinking an adapter is going to do, in a few lines."""

from collections.abc import Iterator, Sequence

from prunedlora.config.data_section import DataConfig
from prunedlora.config.sweep import SweepConfig
from prunedlora.sweep.shrink_data import MOST
from prunedlora.sweep.shrink_original import Original
from prunedlora.sweep.shrink_sizes import ChosenSizes, check_sizes, most_parameters

SPLITS = ("validation", "test")
MOST_NAMES = 12
"""Classes that are named; of more the first and the last."""
SEEN_DATA = "Data that the adapter was trained on make it look better than it is."


def plan_lines(original: Original, sweep: SweepConfig, ruled: Sequence[str], chosen: ChosenSizes) -> Iterator[str]:
    """Of a sweep that `plan_shrink` has made; `ruled`: the splits whose number of examples nobody has given; `chosen`:
    the sizes, where --set gives no others.

    Raises ShrinkError for sizes that the adapter cannot come to (of --set, which nobody has looked at yet).
    """
    trial = sweep.trial
    cuts, ladder = trial.cuts, None if trial.pruning is None else trial.pruning.ladder
    sizes = ladder.rungs if ladder is not None else None if cuts is None else cuts.sizes
    revision = f" (revision {trial.model.revision})" if trial.model.revision is not None else ""
    yield f"Adapter: {original.existing.name}: {original.words}"
    yield f"Base: {trial.model.name}{revision}"
    yield f"Data: {_data(trial.data, ruled)}"
    if trial.data.labels is not None:
        yield f"Classes, in the order of the logits: {listed(trial.data.labels)}"
    yield (
        f"Judged by: {sweep.quality}; recommended is the smallest at most {sweep.recommend_within:g} worse than the "
        "best"
    )
    if sizes is not None:
        given = ", ".join(f"{size:g}" for size in sizes.sizes)
        check_sizes(original, sizes, f"{sizes.unit} {given}")
        most = ", ".join(f"{number:,}" for number in most_parameters(original, sizes))
        yield f"Sizes: at most {most} parameters ({sizes.unit} {given})"
    if sizes == chosen.config and chosen.left_out is not None:
        yield f"Sizes left out: {chosen.left_out}"
    if cuts is not None:
        yield f"Cuts: of the adapter as it is, without training, by {' and '.join(cuts.bases)}"
    if ladder is not None:
        yield (
            f"Training: {trial.training.num_steps:,} steps of {trial.training.batch_size} examples, shared among "
            f"{len(ladder.rungs.sizes)} sizes, learning rate {trial.optimizer.learning_rate:g}"
        )
    yield SEEN_DATA


def _data(data: DataConfig, ruled: Sequence[str]) -> str:
    own = [split for split in SPLITS if data.sources(split)]
    cut = [f"{getattr(data, f'num_{split}'):,} {split}" for split in SPLITS if split not in own]
    parts = [data.train_names]
    if cut:
        rule = f"a quarter of its distinct prompts, at most {MOST}"
        which = f" ({'each' if len(ruled) == len(cut) > 1 else ' and '.join(ruled)}: {rule})" if ruled else ""
        parts.append(f"{' and '.join(cut)} examples are cut from it{which}")
    parts += [f"{split}: {', '.join(repr(source.name) for source in data.sources(split))}" for split in own]
    return "; ".join(parts)


def listed(names: Sequence[str]) -> str:
    """The names, of many the first and the last alone."""
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: MOST_NAMES - 1])}, …, {names[-1]} ({len(names)} in all)"
