"""Sweep files made of tiny models and data, which a preflight takes as they are; or what is refused, and no file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.identity import LocationError
from prunedlora.config.load import load_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.sweep.init_error import InitError
from prunedlora.sweep.init_facts import Lengths
from prunedlora.sweep.init_plan import InitOptions, lines, write_sweep
from prunedlora.sweep.init_sources import find_rows, split_names
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.file_formats import Reading
from prunedlora.training.model import ModelError
from tests.tiny import WORDS, make_data, make_decoder, make_model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models, and data of several kinds; none is changed by a test."""
    home = tmp_path_factory.mktemp("home")
    make_model(home / "encoder"), make_decoder(home / "decoder")
    make_data(home / "labels.csv")
    for split, number in (("train", 120), ("test", 30), ("dev", 30)):
        (home / "folder").mkdir(exist_ok=True)
        rows = make_data(home / "folder" / f"{split}.csv", number).read_text()
        (home / "folder" / f"{split}.csv").write_text(rows.replace(" ", f" {split} "))
    rows = [{"question": f"{word} {number}", "answer": word} for number, word in enumerate(WORDS * 10)]
    write(home / "questions.json", rows)
    write(home / "few.json", rows[:40])
    write(home / "unknown.json", [{"x": f"a{number}", "y": f"b{number}"} for number in range(60)])
    talk = [[said("user", row["question"]), said("assistant", row["answer"])] for row in rows]
    write(home / "turns.json", [{"messages": messages} for messages in talk])
    longer = [[*one, said("user", "and"), said("assistant", "then")] for one in talk]
    write(home / "chats.json", [{"messages": messages} for messages in longer])
    return home


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def write(path: Path, rows: list[Any]) -> None:
    path.write_text(json.dumps(rows))


def made(home: Path, to: Path, model: str, data: str, **more: Any) -> SweepConfig:
    """The sweep of the file that is written, whose preflight has passed."""
    options = InitOptions(model=str(home / model), data=str(home / data), **{"has_gpu": False, "output": to, **more})
    written = write_sweep(options)
    assert written.path == to
    sweep = load_sweep(to)
    assert f"Judged by: {sweep.quality}" in lines(written, sweep)
    return sweep


def test_classes_of_a_file(home: Path, tmp_path: Path) -> None:
    sweep = made(home, tmp_path / "s.yaml", "encoder", "labels.csv")
    trial = sweep.trial
    assert (sweep.name, sweep.storage, sweep.num_trials) == ("labels-encoder", "runs/labels-encoder", 8)
    assert sweep.objectives == {"accuracy": "maximize", "adapter_params": "minimize"}
    assert (trial.data.task, trial.data.num_validation, trial.data.num_test) == ("text_classification", 24, 24)
    assert trial.data.stratify
    assert (trial.head_modules, trial.data.max_length) == (["pooler", "classifier"], 16)
    text = (tmp_path / "s.yaml").read_text()
    assert "# Model: BertForSequenceClassification" in text
    assert "# Data: 72 training examples, 24 for validation" in text
    assert "2 classes, the largest has " in text


@pytest.mark.slow
def test_a_folder_has_splits_of_its_own(home: Path, tmp_path: Path) -> None:
    assert split_names(str(home / "folder"), None) == ["dev", "test", "train"]
    assert split_names(str(home / "labels.csv"), None) == []
    data = made(home, tmp_path / "s.yaml", "encoder", "folder").trial.data
    assert [data.sources(split)[0].split for split in ("train", "validation", "test")] == ["train", "dev", "test"]
    alone = made(
        home, tmp_path / "t.yaml", "encoder", "folder", split="train", test=str(home / "labels.csv")
    ).trial.data
    assert (alone.sources("validation"), alone.num_validation) == ([], 24)
    assert alone.sources("test")[0].name == str(home / "labels.csv")


def test_answers(home: Path, tmp_path: Path) -> None:
    sweep = made(home, tmp_path / "s.yaml", "decoder", "questions.json", storage="s3://bucket/x")
    trial = sweep.trial
    assert (sweep.storage, sweep.quality, trial.evaluation.max_new_tokens) == ("s3://bucket/x", "exact_match", 8)
    source = trial.data.sources("train")[0]
    assert (source.prompt, source.target, trial.data.chat_template) == ("{question}\nAnswer:", " {answer}", None)


@pytest.mark.slow
def test_conversations_without_a_template(home: Path, tmp_path: Path) -> None:
    data = made(home, tmp_path / "s.yaml", "decoder", "turns.json").trial.data
    assert (data.chat_template, data.sources("train")[0].format) == ("none", None)
    with pytest.raises(InitError, match=r"no chat template, and dataset .*chats.json', row \d+ is a conversation of"):
        made(home, tmp_path / "t.yaml", "decoder", "chats.json")
    assert not (tmp_path / "t.yaml").exists()
    template = tmp_path / "template.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}<end>{% endfor %}")
    data = made(home, tmp_path / "t.yaml", "decoder", "chats.json", chat_template=str(template)).trial.data
    assert data.chat_template == str(template)


REFUSED: dict[str, tuple[str, str, dict[str, Any], type[Exception], str]] = {
    "columns that tell nothing": ("decoder", "unknown.json", {}, InitError, r"the columns \(x, y\) do not tell"),
    "an encoder that is to write": ("encoder", "turns.json", {}, InitError, "which are to be written, and model"),
    "few examples": ("decoder", "few.json", {}, InitError, "has 40 distinct prompts, too few to search with"),
    "no data": ("encoder", "absent.csv", {}, DataError, "absent.csv' does not exist"),
    "no model": ("absent", "labels.csv", {}, LocationError, "absent' is neither a folder here|does not exist"),
    "no folder": (
        "encoder", "labels.csv", {"output": Path("nowhere/s.yaml")}, InitError, "nowhere does not exist"
    ),
    "a split that is not there": ("encoder", "folder", {"split": "all"}, DataError, "has no split 'all'"),
    "a split of what is generated": (
        "encoder", "labels.csv", {"data": "reasoning_gym:chain_sum", "split": "train"}, InitError,
        "--split has no effect on 'reasoning_gym:chain_sum'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_no_file(case: str, home: Path, tmp_path: Path) -> None:
    model, data, more, kind, message = REFUSED[case]
    given = {
        "model": str(home / model),
        "data": str(home / data),
        "has_gpu": False,
        "output": tmp_path / "s.yaml",
        **more,
    }
    with pytest.raises(kind, match=message):
        write_sweep(InitOptions(**given))
    assert not (tmp_path / "s.yaml").exists()


def test_a_model_of_the_hub_that_is_not_there(home: Path, tmp_path: Path) -> None:
    options = InitOptions("some/model", str(home / "labels.csv"), has_gpu=False, output=tmp_path / "s.yaml")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set, and this machine's cache does not have it"):
        write_sweep(options)


def test_a_file_that_exists_is_left_alone(home: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("mine")
    with pytest.raises(InitError, match=r"s\.yaml exists, and is not written over"):
        made(home, tmp_path / "s.yaml", "absent", "absent")
    assert (tmp_path / "s.yaml").read_text() == "mine"


def test_several_gguf_files_are_a_question(home: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    options = InitOptions(str(tmp_path), str(home / "labels.csv"), has_gpu=False, output=tmp_path / "s.yaml")
    with pytest.raises(InitError, match=r"has 2 GGUF files \(a\.gguf, b\.gguf\)"):
        write_sweep(options)


def test_files_say_how_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        "\n".join(["text;label", *(f"café {number};{'ab'[number % 2]}" for number in range(9))]).encode("cp1252")
    )
    nothing: dict[str, Any] = dict.fromkeys(("subset", "split", "validation", "test"))
    rows = find_rows(str(path), **nothing, reading=Reading(";", "cp1252"))
    assert (rows.columns, rows.values["text"][1]) == (("text", "label"), "café 1")
    assert rows.sources["train"] == {"name": str(path), "delimiter": ";", "encoding": "cp1252"}
    for reading, said in (
        (Reading(delimiter="ab"), "--delimiter 'ab': String should have at most 1 character"),
        (Reading(encoding="no-such"), "--encoding 'no-such': encoding 'no-such' is none of text files"),
    ):
        with pytest.raises(InitError, match=said):
            find_rows(str(path), **nothing, reading=reading)
    with pytest.raises(InitError, match=r"--delimiter has no effect on 'owner/data', which is no file here; remove it"):
        find_rows("owner/data", **nothing, reading=Reading(";"))
    with pytest.raises(
        InitError, match=r"--encoding has no effect on 'reasoning_gym:x', which is generated; remove it"
    ):
        find_rows("reasoning_gym:x", **nothing, reading=Reading(encoding="utf-16"))


def test_a_long_sweep_is_to_be_planned(home: Path, tmp_path: Path) -> None:
    options = InitOptions(str(home / "encoder"), str(home / "labels.csv"), has_gpu=False, output=tmp_path / "t.yaml")
    written = write_sweep(options)
    sweep = load_sweep(written.path)
    assert "prunedlora plan" not in [*lines(written, sweep)][-1]
    data = replace(written.data, lengths=Lengths(3000, 4000, 5000))
    long = sweep.model_copy(update={"num_trials": 1000})
    assert "--dry-run, then prunedlora plan " in [*lines(replace(written, data=data), long)][-1]
