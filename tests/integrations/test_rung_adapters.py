"""A ladder under a `transformers.Trainer`: a plain adapter of every rung, and a training that they do not disturb."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.verify import VerificationError
from prunedlora.integrations import saved_adapter
from prunedlora.integrations.rung_adapters import RungAdapters, RungNotVerifiedWarning
from prunedlora.integrations.trainer_checks import CallbackError
from prunedlora.integrations.transformers import TargetNotReachedWarning
from tests.integrations.laddered import (
    BORDERS,
    SIZES,
    adapted,
    base,
    callback_of,
    index_in,
    logits_of,
    trainer,
    watched,
)

IN_EVENTS = {"removal": "linear", "removal_end": 0.5, "every_steps": 1}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def parameters_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("kind", "lora", "pruning", "ladder"),
    [
        (LlamaForCausalLM, {}, {}, {}),
        (LlamaForCausalLM, {}, {"basis": "svd"}, {"rate": "continue"}),
        (LlamaForSequenceClassification, {"task_type": "SEQ_CLS"}, {"basis": "whitened"}, IN_EVENTS),
    ],
    ids=["as they are", "svd", "head"],
)
def test_every_rung_leaves_the_adapter_that_is_evaluated_and_saved_on_its_border(
    kind: Any, lora: dict[str, Any], pruning: dict[str, Any], ladder: dict[str, Any], tmp_path: Path
) -> None:
    """PEFT alone gives the logits that the model had there; as the Trainer's own checkpoint of that step does."""
    expected: dict[int, torch.Tensor] = {}
    trained = trainer(
        tmp_path, adapted(kind, **lora), pruning=pruning, ladder=ladder, eval_strategy="steps", eval_steps=1,
        save_strategy="steps", save_steps=1,
    )  # fmt: skip
    watched(trained, "on_evaluate", lambda step, model, _: expected.update({step: logits_of(model)})).train()
    index = index_in(tmp_path)
    assert [entry["rung"] for entry in index] == [0, 1, 2, 3]
    assert [entry["step"] for entry in index] == BORDERS
    assert all(-32 < entry["parameters"] - size <= 0 for entry, size in zip(index[1:], SIZES, strict=True))
    for entry in index:
        folder = tmp_path / "rungs" / entry["folder"]
        assert entry["folder"] == f"{entry['rung']}-{entry['parameters']}"
        plain = PeftModel.from_pretrained(base(kind), folder).eval()
        torch.testing.assert_close(logits_of(plain), expected[entry["step"]], rtol=0, atol=1e-5)
        layers = adapted_layers(plain, "default")
        assert {layer.name: layer.rank for layer in layers} == {n: r for n, r in entry["ranks"].items() if r}
        assert entry["parameters"] == sum(layer.A.numel() + layer.B.numel() for layer in layers)
        checkpoint = PeftModel.from_pretrained(base(kind), tmp_path / f"checkpoint-{entry['step']}")
        torch.testing.assert_close(logits_of(checkpoint), expected[entry["step"]], rtol=0, atol=1e-5)
    assert all((expected[a] - expected[b]).abs().max() > 1e-4 for a, b in pairwise(BORDERS))
    last = load_file(folder / "adapter_model.safetensors")
    final = load_file(tmp_path / "pruned_adapter" / "adapter_model.safetensors")
    assert last.keys() == final.keys()
    assert all(torch.equal(last[name], final[name]) for name in last)
    assert any("score" in name for name in last) == (kind is LlamaForSequenceClassification)


def test_leaving_adapters_changes_nothing_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what dropout draws either."""
    left = trainer(tmp_path / "left", adapted(lora_dropout=0.2))
    left.train()
    monkeypatch.setattr(RungAdapters, "leave", lambda *_: None)
    none = trainer(tmp_path / "none", adapted(lora_dropout=0.2))
    none.train()
    assert len(callback_of(left).events) == 3
    one, other = parameters_of(left.model), parameters_of(none.model)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "ladder",
    [
        pytest.param({}, id="at once"),
        pytest.param(
            IN_EVENTS | {"rate": "continue", "optimizer_state": "kept"}, id="in events", marks=pytest.mark.slow
        ),
    ],
)
def test_a_training_resumed_anywhere_equals_the_uninterrupted_one(ladder: dict[str, Any], tmp_path: Path) -> None:
    """On a border (before its removal), right after it, and inside a rung."""
    make = {"ladder": ladder, "pruning": {"basis": "whitened"}, "save_strategy": "steps", "save_steps": 1}
    whole = trainer(tmp_path, **make)
    whole.train()
    expected, index = parameters_of(whole.model), index_in(tmp_path)
    files = {entry["folder"]: load_file(tmp_path / "rungs" / entry["folder"] / "adapter_model.safetensors")
             for entry in index}  # fmt: skip
    for step in (6, 7, 10, 14):
        seen = {path: path.stat().st_mtime_ns for path in tmp_path.glob("rungs/*/adapter_model.safetensors")}
        resumed = trainer(tmp_path, **make)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        found = parameters_of(resumed.model)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found), step
        assert index_in(tmp_path) == index
        for entry in index:
            path = tmp_path / "rungs" / entry["folder"] / "adapter_model.safetensors"
            assert (path.stat().st_mtime_ns == seen[path]) == (entry["step"] <= step)
            state = load_file(path)
            assert all(torch.equal(state[name], tensor) for name, tensor in files[entry["folder"]].items())


def test_a_training_with_its_rungs_elsewhere_is_not_gone_on_with(tmp_path: Path) -> None:
    trainer(tmp_path, save_strategy="steps", save_steps=7).train()
    checkpoint = str(tmp_path / "checkpoint-7")
    with pytest.raises(
        CallbackError, match=r"rung 0 ended with step 6, and now it ends with step 9: resume with the la"
    ):
        trainer(tmp_path, max_steps=20).train(resume_from_checkpoint=checkpoint)
    index = tmp_path / "rungs" / "rungs.json"
    index.write_text(json.dumps([{"rung": 7, "step": 6, "folder": "7-10"}]))
    with pytest.raises(CallbackError, match=r"rung 7 ended with step 6, and now there is none"):
        trainer(tmp_path).train(resume_from_checkpoint=checkpoint)
    index.write_text('{"rung": 0}')
    with pytest.raises(CallbackError, match=r"rungs\.json is no index of a ladder's adapters; move it away"):
        trainer(tmp_path).train()


def test_another_training_takes_the_place_of_its_forerunner_s_adapters(tmp_path: Path) -> None:
    trainer(tmp_path).train()
    trainer(tmp_path, ladder={"rungs": {"parameters": [150]}}).train()
    index = index_in(tmp_path)
    assert [entry["rung"] for entry in index] == [0, 1]
    assert {path.name for path in tmp_path.glob("rungs/*-*")} == {entry["folder"] for entry in index}
    (tmp_path / "rungs" / "2-notes").mkdir()
    trainer(tmp_path).train()
    assert (tmp_path / "rungs" / "2-notes").exists()


def test_a_rung_that_cannot_be_compared_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = saved_adapter.verify_reloaded

    def fail_once(model: Any, name: str, folder: Path, *inputs: Any, **named: Any) -> None:
        if folder.name.startswith("1-"):
            raise VerificationError("it is another")
        check(model, name, folder, *inputs, **named)

    monkeypatch.setattr(saved_adapter, "verify_reloaded", fail_once)
    make: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1}
    with (
        pytest.warns(RungNotVerifiedWarning, match=r"rung 1: what was saved in .*1-\d+ is not the .*: it is another"),
        pytest.raises(CallbackError, match=r"what was saved in .*rungs/1-\d+ is not the adapter that was trained"),
    ):
        trainer(tmp_path, **make).train()
    assert [entry["rung"] for entry in index_in(tmp_path)] == [0, 2, 3]
    assert len(list(tmp_path.glob("rungs/1-*"))) == 1
    assert (tmp_path / "pruned_adapter").exists()
    with pytest.raises(CallbackError, match=r"what was saved in .*rungs/1-\d+ is not the adapter that was trained"):
        trainer(tmp_path, **make).train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert len(list(tmp_path.glob("rungs/1-*"))) == 1
    monkeypatch.undo()
    trainer(tmp_path, **make).train(resume_from_checkpoint=str(tmp_path / "checkpoint-7"))  # before that rung's end
    assert [entry["rung"] for entry in index_in(tmp_path)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (
            5,
            r"after 5 of 14 steps, before the ladder's trunk was done, with adapters of the rungs passed in no folder",
        ),
        (
            10,
            r"after 10 of 14 steps, before rung 2 of 3 was done, .* in .*rungs/0-\d+, .*rungs/1-\d+: the saved ",
        ),
        (12, r"after 12 of 14 steps, before rung 3 of 3 was done"),
    ],
)
def test_a_ladder_that_is_not_passed_to_its_end_is_said(step: int, match: str, tmp_path: Path) -> None:
    trained = trainer(tmp_path)

    def stop(done: int, *_: Any) -> None:
        trained.control.should_training_stop = done >= step

    with pytest.warns(TargetNotReachedWarning, match=match):
        watched(trained, "on_step_end", stop).train()
    assert (tmp_path / "pruned_adapter").exists()


def test_layers_of_unequal_ranks_go_down_a_ladder(tmp_path: Path) -> None:
    """An adapter made by plain PEFT, loaded to be trained: patterns of ranks and alphas, rsLoRA."""
    patterns = {"rank_pattern": {"q_proj": 6}, "alpha_pattern": {"v_proj": 5}}
    made = adapted(use_rslora=True, **patterns)
    generator = torch.Generator().manual_seed(3)
    for layer in adapted_layers(made, "default"):
        layer.B.data = torch.randn(layer.B.shape, generator=generator) * 0.1
    made.save_pretrained(tmp_path / "made")
    model = PeftModel.from_pretrained(base(), tmp_path / "made", is_trainable=True)
    assert {layer.rank for layer in adapted_layers(model, "default")} == {4, 6}
    expected: dict[int, torch.Tensor] = {}
    trained = trainer(tmp_path, model)
    watched(trained, "on_step_end", lambda step, model, _: expected.update({step: logits_of(model)})).train()
    assert index_in(tmp_path)[0]["parameters"] == (6 + 4) * 32
    for entry in index_in(tmp_path):
        plain = PeftModel.from_pretrained(base(), tmp_path / "rungs" / entry["folder"])
        torch.testing.assert_close(logits_of(plain), expected[entry["step"]], rtol=0, atol=1e-5)
