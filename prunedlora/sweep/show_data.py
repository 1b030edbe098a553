"""A preview of data on the terminal, or as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prunedlora.plain_print import print_plain
from prunedlora.sweep.data_preview import DataPreview, ShownExample
from prunedlora.sweep.shown_text import marked, visible
from prunedlora.sweep.split_facts import SourceFacts, SplitFacts, Spread, Talk
from prunedlora.sweep.trained_text import Piece, Run

MOST_LABELS = 20
"""Classes with a row of their own."""


def preview_json(found: DataPreview, others: Iterable[str]) -> str:
    """All of a preview; an example's runs as {text, trained}, whole."""
    document = asdict(found)
    document["examples"] = {
        split: [
            asdict(one)
            | {
                "runs": [{"text": run.text, "trained": run.is_trained} for run in one.runs],
                "asked": None if one.asked is None else "".join(run.text for run in one.asked),
            }
            for one in examples
        ]
        for split, examples in found.examples.items()
    }
    return json.dumps({**document, "other_data": list(others)}, indent=1)


def print_preview(found: DataPreview, others: Sequence[str], console: Console) -> None:
    """Examples, figures, classes, warnings. Where nothing is coloured, marks say what is trained."""
    marks = console.color_system is None or console.no_color
    if any(found.examples.values()):
        _print_legend(found, console, marks=marks)
    for split, examples in found.examples.items():
        for number, one in enumerate(examples, start=1):
            place = f" ({visible(one.place)})" if one.place else ""
            console.print(
                Text(f"── {split} {number} of {found.splits[split].num_examples:,}{place}", style="bold"),
                soft_wrap=True,
            )
            _print_example(one, console, marks=marks)
            console.print()
    console.print(_figures(found))
    for split, facts in found.splits.items():
        if not facts.sources:
            print_plain(console, f"Source of {split}: cut from train")
        for source in facts.sources:
            print_plain(console, f"Source of {split}: {_source(source)}")
    if found.labels is not None:
        console.print(_labels(found))
    for line in (_limit(found), _padding(found)):
        print_plain(console, line)
    for other in others:
        print_plain(console, f"Other data: {visible(other)}")
    for warning in found.warnings:
        print_plain(console, f"Warning: {visible(warning)}")


def _print_legend(found: DataPreview, console: Console, *, marks: bool) -> None:
    trained = "nothing: a class is" if found.labels is not None else "this"
    parts = [Text("Trained: ")]
    parts.append(
        Text(trained) if found.labels is not None else marked([Run((Piece(trained, False),), True)], marks=marks)
    )
    parts += [Text(". Special tokens: "), marked([Run((Piece("this", True),), False)], marks=marks)]
    parts.append(Text(". White space at borders: ↵ line end, ⇥ tab, · space."))
    console.print(Text.assemble(*parts), soft_wrap=True)
    console.print()


def _print_example(one: ShownExample, console: Console, *, marks: bool) -> None:
    console.print(marked(one.runs, marks=marks), soft_wrap=True)
    if one.label is not None:
        print_plain(console, f"Label: {visible(one.label)}")
    if one.is_beginning:
        print_plain(console, "An answer is generated from: the text before the first that is trained")
    elif one.asked is not None:
        print_plain(console, "An answer is generated from:")
        console.print(marked(one.asked, marks=marks), soft_wrap=True)
    if one.target is not None:
        print_plain(console, "and compared with:")
        console.print(marked([Run((Piece(one.target, False),), False)], marks=marks), soft_wrap=True)


def _figures(found: DataPreview) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("", overflow="fold")
    for split in found.splits:
        table.add_column(split, justify="right", overflow="fold")
    columns = [_rows(facts) for facts in found.splits.values()]
    for name in dict.fromkeys(name for column in columns for name in column):
        values = [column.get(name, "") for column in columns]
        if any(value not in ("", "0", "0%") for value in values) or name == "examples":
            table.add_row(name, *(Text(value) for value in values))
    return table


def _rows(facts: SplitFacts) -> dict[str, str]:
    """Name → text; those that are 0 or empty in all splits are not shown."""
    rows = {
        "examples": f"{facts.num_examples:,}",
        "groups": "" if facts.num_groups is None else f"{facts.num_groups:,}",
        "tokens": f"{facts.num_tokens:,}",
        "length (least/median/95 %/most)": _spread(facts.lengths),
        "trained tokens (the same)": _spread(facts.trained),
        "trained, of all tokens": "" if facts.trained_share is None else f"{facts.trained_share:.1%}",
        "over the limit, lost tokens": f"{facts.num_cut_in_text:,}",
        "over the limit, lost whole turns": f"{facts.num_cut_at_turns:,}",
        "repeat a prompt of the split": f"{facts.num_repeated:,}",
        "left out: prompt is in another split": f"{facts.num_duplicates_removed:,}",
        "left out: group is in another split": f"{facts.num_siblings_removed:,}",
    }
    return rows | ({} if facts.talk is None else _talk_rows(facts.talk))


def _talk_rows(talk: Talk) -> dict[str, str]:
    turns = talk.turns
    return {
        "conversations": f"{talk.num_examples:,}",
        "turns (least/median/most)": f"{turns.least}/{turns.median}/{turns.most}",
        **{f"turns of {visible(role)}": f"{count:,}" for role, count in talk.roles.items()},
        "with a system prompt of their own": f"{talk.with_system:.0%}",
        "with tools": f"{talk.with_tools:.0%}",
    }


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return "/".join(f"{value:,}" for value in (spread.least, spread.median, spread.p95, spread.most))


def _source(source: SourceFacts) -> str:
    parts = [visible(source.name)]
    if source.weight != 1.0:
        parts.append(f"weight {source.weight:g}")
    if source.num_examples is not None:
        parts.append(f"{source.num_examples:,} examples")
    if source.num_per_pass != source.num_examples:
        parts.append(f"{source.num_per_pass:,} in a pass")
    return ", ".join(parts)


def _labels(found: DataPreview) -> Table:
    assert found.labels is not None
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("label", overflow="fold")
    for split in found.splits:
        table.add_column(split, justify="right")
    shown, rest = list(found.labels.items())[:MOST_LABELS], list(found.labels.values())[MOST_LABELS:]
    for label, counts in shown:
        table.add_row(Text(visible(label)), *(f"{count:,}" for count in counts.values()))
    if rest:
        sums = (sum(counts[split] for counts in rest) for split in found.splits)
        table.add_row(f"… {len(rest):,} more", *(f"{total:,}" for total in sums))
    return table


def _limit(found: DataPreview) -> str:
    if found.limit is None:
        return f"Limit of length: none ({found.limit_origin})"
    room = "" if found.room is None else f"; prompts leave {found.room:,} of them to an answer"
    return f"Limit of length: {found.limit:,} tokens ({found.limit_origin}){room}"


def _padding(found: DataPreview) -> str:
    one = found.padding
    if one is None:
        return "Padding: nothing is trained (training.num_steps is 0)"
    return (
        f"Padding: {one.share:.1%} of what goes through the model in training, {one.batch_size:,} examples a step in "
        f"passes of at most {one.limit} (counted over {one.num_steps:,} steps)"
    )
