"""Settings of an adapter that exists: what it makes meaningless is refused, and its content is in the key."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from prunedlora.config.identity import LocationError, adapter_contents, contents, trial_key
from prunedlora.config.load import ConfigError, parse_sweep
from prunedlora.config.pins import hub_names, pinned
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.sweep_binding import changed_contents, differing_fields
from prunedlora.trial.start import start_of
from tests.config.refused import error_of, put


def beginning(tree: dict[str, Any], **adapter: Any) -> dict[str, Any]:
    put(tree, "trial.adapter", adapter)
    return tree


def folder(path: Path, rank: int = 2, **config: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps({"r": rank, "base_model_name_or_path": str(path), **config}))
    name = "base_model.model.layers.0.q.lora_A.weight"
    save_file(
        {name: torch.ones(rank, 4), name.replace("_A", "_B"): torch.ones(4, rank)}, path / "adapter_model.safetensors"
    )
    return path


def trial(tree: dict[str, Any], **adapter: Any) -> TrialConfig:
    return parse_sweep(beginning(tree, **adapter), "x.yaml").trial


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ({}, "trial.adapter: initial_rank is missing: a fresh adapter needs it"),
        ({"initial_rank": 2}, "trial.adapter: alpha is missing"),
        ({"start_from": "a/b", "initial_rank": 2}, "initial_rank is that of the adapter in start_from; remove it"),
        ({"start_from": "a/b", "alpha": 2}, "alpha is that of the adapter"),
        ({"start_from": "a/b", "use_rslora": True}, "use_rslora is that of the adapter"),
        ({"start_from": "a/b", "target_modules": "all-linear"}, "target_modules is that of the adapter"),
        ({"start_from": "a/b", "layers_to_transform": [0]}, "layers_to_transform is that of the adapter"),
        ({"start_from": "a/b", "rank_pattern_from": "c/d"}, "start_from has ranks of its own"),
        ({"rank_pattern_from": "a/b"}, "alpha is missing"),
        ({"rank_pattern_from": "a/b", "alpha": 2, "initial_rank": 2}, "initial_rank is given by rank_pattern_from"),
        ({"rank_pattern_from": "a/b", "alpha": 2, "target_modules": ["q"]}, "target_modules is given by rank_pattern"),
        ({"rank_pattern_from": "a/b", "alpha": 2, "convert_to_lora": 2}, "convert_to_lora has no effect without start"),
        ({"initial_rank": 2, "alpha": 2, "other_base": True}, "other_base has no effect without start_from"),
        (
            {"initial_rank": 2, "alpha": 2, "revision": "v1"},
            "revision has no effect without start_from or rank_pattern",
        ),
        ({"start_from": "./here", "revision": "v1"}, "revision has no effect on './here', which is not from the Hub"),
        ({"start_from": "store:here"}, "'store:here' names no candidate: write store:STORE/KEY@NAME"),
    ],
)
def test_settings_that_an_existing_adapter_makes_meaningless(
    tree: dict[str, Any], adapter: dict[str, Any], said: str
) -> None:
    assert said in error_of(beginning(tree, **adapter))


@pytest.mark.parametrize(
    ("method", "section"),
    [
        ("l1ra", {"l1ra": {"gate_learning_rate": 0.1, "gate_penalty": 1.0, "threshold": 0.1, "every": 0.5}}),
        ("adalora", {"adalora": {"target_rank": 2, "begin": 0.1, "end": 0.5}}),
    ],
)
def test_methods_that_begin_with_one_rank(tree: dict[str, Any], method: str, section: dict[str, Any]) -> None:
    beginning(tree, start_from="a/b", method=method)
    tree["trial"] |= {"pruning": None, **section}
    assert f"adapter.start_from: method {method!r} begins with one rank in all layers" in error_of(tree)
    beginning(tree, rank_pattern_from="a/b", alpha=2, method=method)
    assert f"adapter.rank_pattern_from: method {method!r} begins" in error_of(tree)


def test_method_rslora_takes_ranks_but_not_another_scaling(tree: dict[str, Any]) -> None:
    tree["trial"]["pruning"] = None
    assert "no effect on the scaling of adapter.start_from: take method lora" in error_of(
        beginning(tree, start_from="a/b", method="rslora")
    )
    parse_sweep(beginning(tree, rank_pattern_from="a/b", alpha=2, method="rslora", use_rslora=True), "x.yaml")


def test_a_space_over_what_the_adapter_has_is_refused(tree: dict[str, Any]) -> None:
    beginning(tree, start_from="a/b")
    tree["space"]["adapter.initial_rank"] = {"int": [2, 8]}
    with pytest.raises(ConfigError, match=r"space at .*initial_rank is that of the adapter in start_from"):
        parse_sweep(tree, "x.yaml")


def test_where_to_begin_can_be_searched_and_replaced(tree: dict[str, Any]) -> None:
    beginning(tree, start_from="a/b")
    tree["space"]["adapter.start_from"] = {"choice": ["a/b", "c/d"]}
    sweep = parse_sweep(tree, "x.yaml")
    fresh = {"adapter.start_from": None, "adapter.initial_rank": 4, "adapter.alpha": 4}
    assert trial_with(sweep.trial, fresh).adapter.target_modules == "all-linear"  # type: ignore[union-attr]
    again = TrialConfig.model_validate(sweep.trial.model_dump(mode="json"))
    assert again == sweep.trial
    assert again.adapter is not None
    assert again.adapter.target_modules is None


def test_the_key_holds_the_weights_and_no_path(tree: dict[str, Any], tmp_path: Path) -> None:
    here = trial(tree, start_from=str(folder(tmp_path / "here")))
    key = trial_key(here)
    assert trial_key(trial(tree, start_from=str(folder(tmp_path / "there")))) == key
    with (tmp_path / "there" / "adapter_model.safetensors").open("ab") as file:
        file.write(b"x")
    assert trial_key(trial(tree, start_from=str(tmp_path / "there"))) != key
    folder(tmp_path / "there", lora_alpha=3)
    assert trial_key(trial(tree, start_from=str(tmp_path / "there"))) != key
    before = contents([here])
    folder(tmp_path / "here", rank=3)
    assert trial_key(here) != key
    after = contents([here])
    assert {name for name in before if before[name] != after[name]} == {f"adapter {tmp_path / 'here'}"}


def test_of_a_rank_pattern_the_key_holds_the_ranks(tree: dict[str, Any], tmp_path: Path) -> None:
    one = trial(tree, rank_pattern_from=str(folder(tmp_path / "one")), alpha=2)
    other = trial(tree, rank_pattern_from=str(folder(tmp_path / "other", lora_alpha=9)), alpha=2)
    assert trial_key(one) == trial_key(other)
    folder(tmp_path / "other", rank=3)
    assert trial_key(one) != trial_key(other)


def test_an_adapter_and_its_ranks_in_one_sweep_have_contents_of_their_own(tree: dict[str, Any], tmp_path: Path) -> None:
    name = str(folder(tmp_path / "one"))
    both = [trial(tree, start_from=name), trial(tree, rank_pattern_from=name, alpha=2)]
    for known in (contents(both), contents(both[::-1])):
        assert not any(changed_contents(known, adapter_contents(each)) for each in both)
    folder(tmp_path / "one", lora_alpha=9)
    assert changed_contents(known, contents(both)) == [f"adapter {name}"]
    folder(tmp_path / "one", rank=3)
    assert changed_contents(known, contents(both)) == [f"adapter {name}", f"ranks of adapter {name}"]


def test_the_permission_of_another_base_changes_no_training(tree: dict[str, Any], tmp_path: Path) -> None:
    name = str(folder(tmp_path / "one"))
    without, given = trial(tree, start_from=name), trial(tree, start_from=name, other_base=True)
    assert trial_key(given) == trial_key(without)
    before, after = ({"trial": each.model_dump(mode="json")} for each in (without, given))
    assert before != after
    assert differing_fields(before, after) == []


def test_a_revision_of_what_turns_out_to_be_a_folder(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    for there in ({"start_from": "one"}, {"rank_pattern_from": "one", "alpha": 2}):
        written = trial(tree, revision="v1", **there)
        for use in (trial_key, adapter_contents, start_of):
            with pytest.raises(LocationError, match=r"adapter 'one' is here \(/.*\) and not .*: revision 'v1' has no"):
                use(written)


def test_adapters_that_are_not_there(tree: dict[str, Any], tmp_path: Path) -> None:
    def said(**adapter: Any) -> str:
        with pytest.raises(LocationError) as caught:
            trial_key(trial(tree, **adapter))
        return str(caught.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"adapter {str(empty)!r} has no adapter_config.json" in said(start_from=str(empty))
    (empty / "adapter_config.json").write_text("[]")
    (empty / "adapter_model.safetensors").write_bytes(b"nothing")
    assert "its adapter_config.json is no JSON object" in said(start_from=str(empty))
    assert "is no file of safetensors" in said(rank_pattern_from=str(empty), alpha=2)
    save_file({"x": torch.ones(1)}, empty / "adapter_model.safetensors")
    assert "has no factors A of a LoRA" in said(rank_pattern_from=str(empty), alpha=2)
    names = ["base_model.model.q.lora_A.weight", "base_model.model.embed.lora_embedding_A"]
    save_file({name: torch.ones(1, 2) for name in names}, empty / "adapter_model.safetensors")
    assert f"adapts an embedding ({names[1]!r}), which a fresh adapter" in said(rank_pattern_from=str(empty), alpha=2)
    assert "adapter 'a/b/c' is neither a folder here" in said(start_from="a/b/c")
    assert "is no store: it has no sweep.yaml" in said(start_from=f"store:{empty}/abc@1")
    assert "name it by KEY@NAME" in said(start_from=f"store:{empty}/recommended")


def test_a_name_on_the_hub_is_pinned(tree: dict[str, Any]) -> None:
    written = trial(tree, start_from="a/b", revision="v1")
    (name,) = (name for name in hub_names([written]) if name.name == "a/b")
    assert (name.kind, name.text, name.file) == ("model", "model a/b@v1", "adapter_config.json")
    loaded = pinned(written, {"model a/b@v1": "c" * 40})
    assert loaded.adapter is not None
    assert loaded.adapter.revision == "c" * 40
    assert trial_key(written) != trial_key(trial(tree, start_from="a/b", revision="v2"))
