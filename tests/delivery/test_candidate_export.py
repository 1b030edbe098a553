"""An adapter out of its store: as it was trained, padded, in another dtype, merged, with its card and certificate."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from prunedlora.checksums import file_sha256
from prunedlora.cli import app
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.card import card
from prunedlora.delivery.form import ExportError, Form
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.stored_adapter import AS_RECORDED, StoredAdapterError, fetch_adapter
from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.record import Cut
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.delivery.hub import logged_in, running_hub
from tests.tiny import sweep_tree

ALONE = Workers(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, Path]:
    """A store with one pruned trial (ranks 3), its last candidate tested, its key, and the base model's folder."""
    folder = tmp_path_factory.mktemp("tiny")
    store = Store(str(folder / "store"))
    tree = sweep_tree(folder, store.uri)
    store.create_or_open(tree)
    trial, assets = parse_sweep(tree, "test").trial, AssetCache(ALONE.device)
    key = trial_key(trial)
    execute_trial(
        trial, key, store=store, assets=assets, workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    measure_test(trial, key, "12", store=store, assets=assets, workers=ALONE)
    return store, key, folder / "model"


def logits(model: Any, base: Path) -> torch.Tensor:
    batch = AutoTokenizer.from_pretrained(base)(["alpha river stone", "house cloud"], padding=True, return_tensors="pt")
    with torch.no_grad():
        found: torch.Tensor = model.eval()(**batch).logits
    return found.float()


def with_peft(base: Path, folder: Path) -> Any:
    return PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base, num_labels=2), folder)


def test_every_form_does_what_the_adapter_does(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, base = trained
    forms = {
        "plain": Form(),
        "padded": Form(slot=8),
        "uniform": Form(uniform=5),
        "half": Form(slot=8, dtype="bfloat16"),
        "merged": Form(merged=True),
    }
    facts = {name: export_candidate(store, key, tmp_path / name, check=True, form=form) for name, form in forms.items()}
    assert "max_logit_difference_handed_over" not in facts["plain"]
    assert all(facts[name]["max_logit_difference_handed_over"] < 0.05 for name in facts if name != "plain")
    expected = logits(with_peft(base, tmp_path / "plain"), base)
    torch.testing.assert_close(logits(with_peft(base, tmp_path / "padded"), base), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(with_peft(base, tmp_path / "uniform"), base), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(with_peft(base, tmp_path / "half"), base), expected, rtol=0, atol=5e-2)
    # The merged folder needs neither PEFT nor the base, and brings its tokenizer.
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged, tmp_path / "merged"), expected, rtol=0, atol=1e-5)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    padded = load_file(tmp_path / "padded" / "adapter_model.safetensors")
    assert {len(tensor) for name, tensor in padded.items() if ".lora_A." in name} == {8}
    config = json.loads((tmp_path / "padded" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (8, 8, {})
    half = load_file(tmp_path / "half" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}


def test_an_adapter_that_is_gone_is_named(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    """Not a trouble of the storage: a comparison goes on without it."""
    store = Store(str(shutil.copytree(trained[0].uri, tmp_path / "store")))
    record = store.read_record(trained[1])
    assert record is not None
    last = record.candidates[-1]
    folder = Path(store.uri, store.trial_path(record.key, str(last.adapter_path)))
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(StoredAdapterError, match=r"the adapter is damaged: .*adapter_config\.json"):
        fetch_adapter(store, record, last, tmp_path / "a")
    shutil.rmtree(folder)
    with pytest.raises(StoredAdapterError, match="000012 does not exist: the adapter is gone"):
        fetch_adapter(store, record, last, tmp_path / "b")


def test_the_card_loads_the_base_as_it_was_trained_on(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, _ = trained
    record = store.read_record(key)
    assert record is not None
    model = {"name": "some/base", "revision": "v1.5", "gguf_file": "base.gguf", "config_overrides": {"dropout": 0.0}}
    told = record.model_copy(update={"config": record.config | {"model": model}})
    text = card(told, record.candidates[-1], {}, Form())
    lines = text.split("```python\n")[1].split("```")[0].splitlines()
    assert "BASE = 'some/base'" in lines
    assert "id2label = dict(enumerate(['back', 'front']))" in lines
    at = lines.index("base = AutoModelForSequenceClassification.from_pretrained(")
    assert [line.strip() for line in lines[at + 1 : lines.index(")")]] == [
        "BASE,", "revision='v1.5',", "gguf_file='base.gguf',", "dtype='float32',", "num_labels=2,",
        "id2label=id2label,", "label2id={label: number for number, label in id2label.items()},",
        "pad_token_id=0,", "dropout=0.0,",
    ]  # fmt: skip
    assert "tokenizer = AutoTokenizer.from_pretrained(BASE, revision='v1.5', gguf_file='base.gguf')" in lines


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {"start_from": "store:runs/a#k@5", "sha256": "ab12", "config_sha256": "cd"},
            "Its training continues the adapter `store:runs/a#k@5`, sha256 ab12.",
        ),
        (
            {"start_from": "me/a", "revision": "c0ffee", "sha256": "ab12", "config_sha256": "cd"},
            "Its training continues the adapter `me/a`, revision c0ffee, sha256 ab12.",
        ),
        ({"rank_pattern_from": "./a"}, "Its layers began with the ranks of the adapter `./a`."),
    ],
)
def test_the_card_names_the_adapter_that_the_training_began_with(
    facts: dict[str, Any], said: str, trained: tuple[Store, str, Path]
) -> None:
    store, key, _ = trained
    record = store.read_record(key)
    assert record is not None
    assert "the adapter `" not in card(record, record.candidates[-1], {}, Form())
    environment = record.environment.model_copy(update={"model": record.environment.model | {"adapter": facts}})
    told = record.model_copy(update={"environment": environment})
    assert f"What servers multiply it by is told below. {said}\n" in card(told, record.candidates[-1], {}, Form())


def test_an_adapter_belongs_to_the_commit_that_it_was_trained_on(trained: tuple[Store, str, Path]) -> None:
    """A record of an earlier version says `main`, which has moved since, and among the facts what that was."""
    store, key, _ = trained
    record = store.read_record(key)
    assert record is not None
    commit = "a" * 40
    facts = record.environment.model_copy(update={"model": record.environment.model | {"revision": commit}})
    config = record.config | {"model": {"name": "some/base", "revision": "main"}}
    told = record.model_copy(update={"config": config, "environment": facts})
    assert recorded_trial(told).model.revision == commit
    assert f"revision='{commit}'" in card(told, record.candidates[-1], {}, Form())
    assert recorded_trial(record).model.revision is None  # a local folder has none
    tagged = told.model_copy(update={"environment": record.environment})
    assert recorded_trial(tagged).model.revision == "main"


def test_the_card_is_one_that_the_hub_reads_and_the_certificate_says_what_was_checked(
    trained: tuple[Store, str, Path], tmp_path: Path
) -> None:
    store, key, base = trained
    export_candidate(store, f"{key}@12", tmp_path / "a", check=True)
    card = ModelCard.load(tmp_path / "a" / "README.md", ignore_metadata_errors=False)
    assert card.data.base_model is None  # a local folder, which the Hub would refuse; the text says it
    assert f"# LoRA adapter for {base}" in card.text
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-classification"
    (result,) = card.data.eval_results
    test = json.loads(Path(store.uri, "trials", key, "adapters", "000012", "test.json").read_text())
    assert (result.metric_type, result.dataset_split) == ("accuracy", "test")
    assert result.metric_value == test["figures"]["accuracy"]["value"]
    assert "num_labels=2" in card.text
    assert "| vLLM | refused: takes no modules_to_save" in card.text
    certificate = json.loads((tmp_path / "a" / "certificate.json").read_text())
    assert certificate["candidate"] == f"{key}@12"
    assert certificate["checks"]["max_logit_difference_merged"] < 1e-4
    assert set(certificate["ranks"].values()) == {3}
    assert certificate["servers"]["peft"]["trained"] == {"verdict": "right", "why": None}
    assert certificate["servers"]["vllm"]["trained"]["verdict"] == "refused"
    assert certificate["config"]["adapter"]["initial_rank"] == 6


def test_the_card_says_of_an_adapter_that_it_does_nothing(trained: tuple[Store, str, Path]) -> None:
    store, key, _ = trained
    record = store.read_record(key)
    assert record is not None
    last = record.candidates[-1]
    said = "It does nothing: on the examples that were checked the logits are the same without it."
    assert said not in card(record, last, {}, Form())
    assert last.certificate is not None
    idle = last.model_copy(update={"certificate": last.certificate | {"max_logit_change": 0.0}})
    assert said in card(record, idle, {}, Form())


def test_the_card_speaks_of_what_is_handed_over(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, _ = trained
    export_candidate(store, key, tmp_path / "padded", check=False, form=Form(slot=8, dtype="bfloat16"))
    card = ModelCard.load(tmp_path / "padded" / "README.md")
    assert "Here every layer is padded with zeros to rank 8; it is stored in bfloat16." in card.text
    assert json.loads((tmp_path / "padded" / "certificate.json").read_text())["served_slot"] == 8
    export_candidate(store, key, tmp_path / "merged", check=False, form=Form(merged=True))
    card = ModelCard.load(tmp_path / "merged" / "README.md")
    assert card.data.library_name == "transformers"
    assert "PeftModel" not in card.text
    assert "is served like its base" in card.text
    certificate = json.loads((tmp_path / "merged" / "certificate.json").read_text())
    assert certificate["form"] == {"slot": None, "uniform": None, "dtype": None, "merged": True, "gguf": False}
    assert certificate["servers"]["mlx"]["merged"]["verdict"] == "not known"  # nobody has tried one with a head
    assert certificate["checks"]["max_logit_difference_handed_over"] < 1e-4


def test_the_memory_of_the_slot_is_told(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, _ = trained
    export_candidate(store, key, tmp_path / "padded", check=False, form=Form(slot=16))
    per_rank = 2 * (4 * (16 + 16) + 2 * (16 + 32))
    certificate = json.loads((tmp_path / "padded" / "certificate.json").read_text())
    assert certificate["served_slot_bytes"] == per_rank * 16 * 2


def test_an_earlier_candidate_has_its_validation_figure(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, _ = trained
    assert export_candidate(store, f"{key}@6", tmp_path / "a", check=False) == {"weights_file": AS_RECORDED}
    card = ModelCard.load(tmp_path / "a" / "README.md")
    assert card.data.eval_results[0].dataset_split == "validation"
    assert "on the validation split, by which its sweep chose, (20 examples, one training run)" in card.text


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (Form(slot=9), "served slot 9 is none of 1, 8, 16"),
        (Form(slot=1), "served slot 1 does not hold the adapter's largest rank, 3"),
        (Form(slot=8, merged=True), "a merged model has no ranks"),
        (
            Form(uniform=4, merged=True),
            "a merged model has no ranks: leave out --uniform and --served-slot, or --merge",
        ),
        (Form(uniform=2), "rank 2 does not hold the adapter's largest rank, 3"),
        (Form(slot=8, uniform=8), "a served slot is one rank for all layers: leave out --uniform or --served-slot"),
        (Form(gguf=True, uniform=3), "a GGUF adapter needs no padding, its layers keep their ranks: leave out --gguf"),
        (Form(gguf=True, slot=8), "leave out --gguf, or --uniform and --served-slot"),
        (Form(gguf=True, merged=True), "a merged model has no adapter left: leave out --gguf or --merge"),
        (Form(gguf=True), r"has no place for a head that was trained with it \(pooler, classifier\): leave out --gguf"),
        (Form(dtype="int8"), "dtype 'int8' is none of float32, bfloat16, float16"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(
    form: Form, message: str, trained: tuple[Store, str, Path], tmp_path: Path
) -> None:
    store, key, _ = trained
    with pytest.raises(ExportError, match=message):
        export_candidate(store, key, tmp_path / "a", check=False, form=form)
    assert not (tmp_path / "a").exists()


def test_a_record_without_shapes_cannot_fill_what_is_absent(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    """As records of earlier versions are, and those of models that keep several layers in one tensor."""
    store = Store(str(shutil.copytree(trained[0].uri, tmp_path / "store")))
    record = store.read_record(trained[1])
    assert record is not None
    store.write_record(record.model_copy(update={"layer_widths": None}), driver_epoch=1)
    for form in (Form(uniform=4), Form(slot=8)):
        with pytest.raises(
            ExportError, match="the record has none: it is older than they are, or the base model keeps"
        ):
            export_candidate(store, trained[1], tmp_path / "a", check=False, form=form)


@pytest.mark.parametrize(
    ("options", "rank", "slot"),
    [(["--uniform"], 3, 8), (["--uniform-rank", "9"], 9, 16), (["--served-slot", "8"], 8, 8)],
)
def test_one_rank_by_command(
    options: list[str], rank: int, slot: int, trained: tuple[Store, str, Path], tmp_path: Path
) -> None:
    store, key, _ = trained
    result = CliRunner().invoke(app, ["export", store.uri, key, "--to", str(tmp_path / "a"), "--no-check", *options])
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (rank, rank, {})
    certificate = json.loads((tmp_path / "a" / "certificate.json").read_text())
    assert certificate["served_slot"] == slot  # a rank between two slots takes the larger one
    card = (tmp_path / "a" / "README.md").read_text()
    assert f"every layer is padded with zeros to rank {rank}" in card
    assert "loader's is 1" not in card
    assert certificate["servers"]["llama.cpp"]["uniform"] == {"verdict": "refused", "why": "takes no head"}
    assert "| PEFT | right |  |\n| vLLM | refused: takes no modules_to_save" in card


def test_two_ranks_are_one_too_many(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    asked = ["export", trained[0].uri, "--to", str(tmp_path / "a"), "--uniform", "--uniform-rank", "9"]
    result = CliRunner().invoke(app, asked)
    assert (result.exit_code, "--uniform is the largest rank" in result.output) == (2, True), result.output


@pytest.mark.parametrize("name", [None, "recommended", "best", "beginning"])
def test_the_command_takes_the_recommended_candidate_or_any_name_for_one(
    name: str | None, trained: tuple[Store, str, Path], tmp_path: Path
) -> None:
    store, key, _ = trained
    given = [] if name is None else [key[:5] if name == "beginning" else name]
    record, candidate = find_candidate(store, given[0] if given else "recommended")
    result = CliRunner().invoke(app, ["export", store.uri, *given, "--to", str(tmp_path / "a"), "--no-check"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Candidate: {record.key}@{candidate.name}\n")
    assert file_sha256(tmp_path / "a" / "adapter_model.safetensors") == candidate.file_sha256


def test_push(trained: tuple[Store, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was checked and written is what the repository holds; what forbids it is told before any work."""
    store, key, _ = trained
    asked = ["export", store.uri, f"{key}@12", "--to", str(tmp_path / "a")]
    with running_hub() as hub:
        logged_in(monkeypatch, hub, tmp_path)
        for arguments, message in (
            (["--private"], "--private has no effect without --push"),
            (["--push", "me/x", "--no-check"], "what is pushed is checked first"),
            (["--push", "me/x/y"], "cannot push to 'me/x/y', write OWNER/NAME"),
            (["--push", "x"], "cannot push to 'x', write OWNER/NAME: its card names the repository"),
        ):
            result = CliRunner().invoke(app, [*asked, *arguments])
            assert (result.exit_code, message in " ".join(result.output.split())) == (2, True), result.output
        assert not (tmp_path / "a").exists()
        result = CliRunner().invoke(app, [*asked, "--push", "me/x", "--private"])
        assert result.exit_code == 0, result.output
        assert f"Pushed: {hub.url}/me/x" in result.output
        assert b"PATH = 'me/x'" in hub.files["me/x"]["README.md"]
        assert hub.files == {"me/x": {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}}
        assert (hub.private, hub.commits) == (
            {"me/x": True},
            [f"Adapter {key}@12, exported by prunedlora"],
        )


def test_a_cut_is_exported_by_its_name_and_its_card_says_what_it_is(
    trained: tuple[Store, str, Path], tmp_path: Path
) -> None:
    store = Store(str(shutil.copytree(trained[0].uri, tmp_path / "store")))
    record = store.read_record(trained[1])
    assert record is not None
    last, name = record.candidates[-1], "12-whitened-global_per_parameter-parameters-1000000"
    cut = Cut(basis="whitened", allocation="global_per_parameter", unit="parameters", size=1e6)
    path = f"adapters/000012{cut.name}"
    made = last.model_copy(update={"cut": cut, "rung": 2, "adapter_path": path})
    places = store.trial_path(record.key, str(last.adapter_path)), store.trial_path(record.key, path)
    shutil.copytree(Path(store.uri, places[0]), Path(store.uri, places[1]))
    changed = record.model_copy(update={"candidates": (*record.candidates, made)})
    store.write_record(changed, driver_epoch=1)

    arguments = ["export", store.uri, f"{record.key}@{name}", "--to", str(tmp_path / "out"), "--no-check"]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, f"Candidate: {record.key}@{name}" in done.output) == (0, True), done.output
    words = " ".join((tmp_path / "out" / "README.md").read_text().split())
    assert (
        f"after step 12: cut without training from rung 2 of a ladder (`{record.key}@12`, {last.adapter_params:,} "
        "parameters) to at most 1,000,000 parameters, by whitened, allocation global_per_parameter."
    ) in words
    document = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert (document["rung"], document["cut"]) == (2, cut.model_dump())
    # The key alone is what was trained; what was not measured is not told as if it had been.
    assert find_candidate(store, record.key)[1].name == "12"
    loss_alone = made.model_copy(update={"figures": {"loss": made.figures["loss"]}})
    assert "\nloss " in card(changed, loss_alone, {}, Form())
