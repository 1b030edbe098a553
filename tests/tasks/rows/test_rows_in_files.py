"""The same rows of every format, in every kind of file that holds them, give the same examples."""

import csv
import datetime
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.sources import Source, load_examples, load_prompts
from prunedlora.tasks.splits import load_splits

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris", "days": 2}}}
OTHER = {"type": "function", "function": {"name": "time", "arguments": {"zone": "UTC"}}}
TOOLS = [{"name": "weather", "parameters": {"limit": 1.5}}, {"name": "time", "parameters": {"zone": {"type": "a"}}}]
CHATS = [
    [{"role": "user", "content": "Weather?"}, {"role": "assistant", "tool_calls": [CALL, OTHER]}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "1"},
    ],
]
LATER = [{"from": "human", "value": "2"}, {"from": "gpt", "value": "Bye"}]
SHAREGPT = [[{"from": "human", "value": f"Hi {i}"}, {"from": "gpt", "value": "Hello"}, *LATER] for i in range(2)]
ROWS: dict[str, list[dict[str, Any]]] = {
    "messages": [{"messages": CHATS[0], "tools": TOOLS}, {"messages": CHATS[1], "tools": None}],
    "sharegpt": [{"conversations": SHAREGPT[0], "system": "x"}, {"conversations": SHAREGPT[1], "system": None}],
    "prompt_completion": [{"prompt": "01", "completion": "1.10"}, {"prompt": "1", "completion": "1.1"}],
    "turns": [{"prompt": chat[:-1], "completion": chat[-1:]} for chat in CHATS],
    "alpaca": [
        {"instruction": "Add.", "input": "1.10", "output": "4", "history": [["a", "b"]]},
        {"instruction": "Add.", "input": None, "output": "4", "history": None},
    ],
    "input_output": [
        {"segments": [{"label": False, "text": "a "}, {"label": True, "text": text}]} for text in ("b", "c")
    ],
    "text": [{"text": "Once"}, {"text": "upon\na time"}],
}
FORMAT = {"turns": "prompt_completion"}


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1))


def write_packed(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """As structs: every message has every key that one has, with null in it."""
    datasets.Dataset.from_list(rows).to_parquet(str(path))


def write_cells(path: Path, rows: list[dict[str, Any]]) -> None:
    """As pandas and spreadsheets can: lists are JSON text, what is missing is an empty cell."""
    with path.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        for row in rows:
            cells = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}
            writer.writerow({name: "" if row[name] is None else cell for name, cell in cells.items()})


FILES: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "rows.jsonl": write_jsonl,
    "rows.json": write_json,
    "rows.jsonl.gz": write_packed,
    "rows.parquet": write_parquet,
    "rows.csv": write_cells,
    "rows.tsv": write_cells,
    "folder/data/train-00000-of-00001.jsonl": write_jsonl,
    "folder/data/train-00000-of-00001.parquet": write_parquet,
}


@pytest.mark.parametrize("file", FILES)
def test_rows_of_every_format_in_every_file(tmp_path: Path, file: str) -> None:
    for name, rows in ROWS.items():
        if (name == "turns" and FILES[file] == write_cells) or (name == "text" and file == "rows.tsv"):
            continue  # a cell is text, and so are prompts; one of a tsv has no line breaks
        written = tmp_path / name / file
        written.parent.mkdir(parents=True)
        FILES[file](written, rows)
        path = tmp_path / name / "folder" if file.startswith("folder") else written
        write_jsonl(tmp_path / "expected.jsonl", rows)
        expected = load_examples(Source(str(tmp_path / "expected.jsonl")), 0)
        found = load_examples(Source(str(path)), 0)
        assert found == expected
        assert [repr(example.conversation) for example in found] == [repr(one.conversation) for one in expected]
        assert load_examples(Source(str(path), format=FORMAT.get(name, name)), 0) == expected
        assert sorted(example.place for example in found) == [f"dataset {str(path)!r}, row {row}" for row in (0, 1)]


def example_of(path: Path, **settings: Any) -> Example:
    return load_examples(Source(str(path), **settings), 0)[0]


def test_numbers_are_text_to_templates_and_numbers_inside_of_values(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1.10, "b": 1e3, "c": {"x": [1.10, 3]}, "d": true, "e": 7, "f": null, "g": "1.10"}]')
    example = example_of(path, prompt="{a}", target="{b}", group="{e}", score_columns=list("abcdefg"))
    assert (example.prompt, example.target, example.group) == ("1.10", "1e3", "7")
    assert [type(text) for text in (example.prompt, example.target, example.group)] == [str] * 3
    assert repr(example.columns) == repr(
        {"a": 1.1, "b": 1000.0, "c": {"x": [1.1, 3]}, "d": True, "e": 7, "f": None, "g": "1.10"}
    )


def test_examples_of_templates_say_where_they_are_from(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", ROWS["prompt_completion"])
    examples = load_examples(Source(str(tmp_path / "rows.jsonl"), "{prompt}", "{completion}"), 0)
    rows = {"01": 0, "1": 1}
    assert all(one.place == f"dataset '{tmp_path / 'rows.jsonl'}', row {rows[one.prompt]}" for one in examples)
    options = {"min_family_size": 3, "max_family_size": 4}
    name = "reasoning_gym:family_relationships"
    made = load_examples(Source(name, "{question}", "{answer}", options=options, seed=0, num_examples=2), 0)
    assert [one.place for one in made] == [f"dataset '{name}', row 0", f"dataset '{name}', row 1"]


def test_columns_for_a_score_of_ones_own(tmp_path: Path) -> None:
    rows = [{"text": "a", "tests": ["x == 1"], "weight": 0.5, "when": None}]
    for name in ("rows.jsonl", "rows.parquet"):
        FILES[name](tmp_path / name, rows)
        example = example_of(tmp_path / name, score_columns=["tests", "weight", "when"], group="{weight}")
        assert example.columns == {"tests": ["x == 1"], "weight": 0.5, "when": None}
        assert example.group == "0.5"
        with pytest.raises(DataError, match="has no column answer; it has: text, tests, weight, when"):
            example_of(tmp_path / name, score_columns=["answer"])


def test_a_column_that_json_has_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    day = datetime.date(2024, 1, 31)
    table = {"text": ["a"], "day": [day], "narrow": pyarrow.array([1.1], pyarrow.float32()), "nan": [float("nan")]}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    with pytest.raises(DataError, match="row 0, column 'day': holds a date; JSON has texts, numbers, truth values"):
        example_of(path, score_columns=["day"])
    assert example_of(path, score_columns=["narrow", "nan"]).columns == {"narrow": 1.1, "nan": None}


def test_a_few_rows_are_a_sample_as_of_templates(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}", "completion": "x"} for i in range(20)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    source = Source(str(tmp_path / "rows.jsonl"), num_examples=5)
    templates = Source(source.name, "{prompt}", "{completion}", num_examples=5)
    assert load_examples(source, 3) == load_examples(templates, 3)
    assert len(load_examples(source, 3)) == 5


def test_prompts_of_rows_are_all_that_a_model_may_read(tmp_path: Path) -> None:
    def prompts(rows: list[dict[str, Any]], most: int) -> list[str]:
        write_jsonl(tmp_path / "rows.jsonl", rows)
        return load_prompts(Source(str(tmp_path / "rows.jsonl"), group="{absent}", score_columns=["absent"]), most)

    assert sorted(prompts(ROWS["messages"], 9)) == ["Be brief.\nHi\n1", "Weather?"]
    assert len(prompts(ROWS["messages"], 1)) == 1
    assert prompts(ROWS["input_output"][:1], 9) == ["a b"]
    assert prompts(ROWS["text"][:1], 9) == ["Once"]
    assert prompts(ROWS["prompt_completion"][:1], 9) == ["01"]


def test_what_is_generated_and_templates_have_no_rows_of_a_format(tmp_path: Path) -> None:
    generated = Source("reasoning_gym:chain_sum", seed=0, num_examples=1)
    with pytest.raises(
        DataError, match="'reasoning_gym:chain_sum' is generated and has no rows of a format: give prom"
    ):
        load_examples(generated, 0)
    with pytest.raises(DataError, match="is generated and has no rows of a format"):
        load_prompts(generated, 1)
    write_jsonl(tmp_path / "rows.jsonl", ROWS["prompt_completion"])
    with pytest.raises(DataError, match="system has no effect on prompt and target; write it into the template"):
        example_of(tmp_path / "rows.jsonl", prompt="{prompt}", target="{completion}", system="Be brief.")


def fingerprint(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> str:
    write_jsonl(folder / "rows.jsonl", rows)
    source = Source(str(folder / "rows.jsonl"), **settings)
    return load_splits(source, None, None, 1, 1, 0).fingerprint


def test_the_fingerprint_tells_everything_that_is_trained(tmp_path: Path) -> None:
    """And plain examples keep the one that they had before there were others."""
    plain = [{"prompt": f"{i}", "completion": "x"} for i in range(3)]
    assert fingerprint(tmp_path, plain) == fingerprint(tmp_path, plain, prompt="{prompt}", target="{completion}")
    assert fingerprint(tmp_path, plain) == "3175a63aa2c5ec95aeeb5fb7df1979dc8713550e39ab0f740f0026143a802d27"

    def chats(**last: Any) -> list[dict[str, Any]]:
        turns = [{"role": "assistant", "content": "x", **last}]
        return [{"messages": [{"role": "user", "content": f"{i}"}, *turns], "id": 1} for i in range(3)]

    def segments(*texts: str) -> list[dict[str, Any]]:
        return [
            {"segments": [{"label": False, "text": text} for text in (str(i), *texts)] + [{"label": True, "text": "x"}]}
            for i in range(3)
        ]

    different = [
        fingerprint(tmp_path, plain),
        fingerprint(tmp_path, plain, score_columns=["completion"]),
        fingerprint(tmp_path, chats()),
        fingerprint(tmp_path, chats(reasoning_content="y")),
        fingerprint(tmp_path, chats(), score_columns=["id"]),
        fingerprint(tmp_path, [row | {"chat_template_kwargs": {"a": 1}} for row in chats()]),
        fingerprint(tmp_path, [row | {"tools": [{"name": "f", "strict": True}]} for row in chats()]),
        fingerprint(tmp_path, [row | {"tools": [{"strict": True, "name": "f"}]} for row in chats()]),
        fingerprint(tmp_path, segments("ab")),
        fingerprint(tmp_path, segments("a", "b")),
    ]
    assert len(set(different)) == len(different)
    assert fingerprint(tmp_path, chats()) == different[2]
