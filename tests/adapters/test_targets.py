import pytest
import torch
from torch import nn

from prunedlora.adapters.targets import TargetError, exact_selection, resolve_head, resolve_targets


class Nested(nn.Module):
    """Names that are endings of one another: q, enc.q, enc.x.q, enc.xq."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(4, 4)
        self.enc = nn.Module()
        self.enc.q = nn.Linear(4, 4)
        self.enc.xq = nn.Linear(4, 4)
        self.enc.x = nn.Module()
        self.enc.x.q = nn.Linear(4, 4)
        self.enc.norm = nn.LayerNorm(4)
        self.pre_classifier = nn.Linear(4, 4)
        self.classifier = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def test_all_linear_leaves_out_output_embedding_and_head(make_model):
    names = resolve_targets(make_model("llama"), "all-linear", [])
    assert len(names) == 14
    assert "lm_head" not in names
    names = resolve_targets(make_model("bert"), "all-linear", ["bert.pooler", "classifier"])
    assert len(names) == 12
    assert all(name.startswith("bert.encoder.layer.") for name in names)


def test_all_linear_takes_a_head_that_is_not_trained_whole(make_model):
    assert "classifier" in resolve_targets(make_model("bert"), "all-linear", [])


def test_entries_are_names_or_endings_after_a_dot():
    model = Nested()
    assert resolve_targets(model, ["q"], []) == ["q", "enc.q", "enc.x.q"]
    assert resolve_targets(model, ["enc.x.q", "enc.q"], []) == ["enc.q", "enc.x.q"]
    assert resolve_targets(model, ["classifier.0"], []) == ["classifier.0"]


@pytest.mark.parametrize(
    ("targets", "heads", "message"),
    [
        (["query"], [], r"target module 'query' matches nothing outside the head; linear modules end in: 0, 1, .*, xq"),
        (["enc.norm"], [], r"target module 'enc.norm' is a LayerNorm, not a linear layer"),
        (["classifier.0"], ["classifier"], r"target module 'classifier.0' matches nothing outside the head"),
        ([], [], r"target_modules is empty; name at least one module"),
        ("q", [], r"target_modules is 'q'; give 'all-linear' or a list of module names"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, heads, message):
    with pytest.raises(TargetError, match=message):
        resolve_targets(Nested(), targets, heads)


def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(TargetError, match="'all-linear' matches nothing: the model has no linear layer to adapt"):
        resolve_targets(nn.Sequential(nn.LayerNorm(2)), "all-linear", [])


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (["score"], r"head module 'score' matches no module of the model; top-level modules: q, enc, pre_classifier"),
        (["classifier"], r"would train pre_classifier too; add them to head_modules"),
        (["pre_classifier", "classifier", "classifier.1"], r"'classifier.1' lies inside head module 'classifier'"),
    ],
)
def test_heads_that_do_not_fit_are_refused(heads, message):
    with pytest.raises(TargetError, match=message):
        resolve_head(Nested(), heads)


def test_heads_are_given_by_full_name(make_model):
    assert resolve_head(make_model("bert"), ["pooler", "classifier"]) == ["bert.pooler", "classifier"]


@pytest.mark.parametrize("wanted", [["q"], ["enc.q"], ["enc.x.q"], ["q", "enc.x.q"], ["q", "enc.q"], ["enc.xq"]])
def test_exact_selection_is_exact_in_peft(wanted):
    from peft import LoraConfig, get_peft_model

    model = Nested()
    selection = exact_selection([name for name, _ in model.named_modules()], wanted)
    adapted = get_peft_model(model, LoraConfig(r=2, **selection))
    assert [n for n, m in adapted.get_base_model().named_modules() if hasattr(m, "lora_A")] == wanted
    assert isinstance(adapted.get_base_model().enc.norm, nn.LayerNorm)
    assert torch.is_tensor(adapted.get_base_model().q.weight)


def test_only_the_layers_asked_for(make_model):
    bert = make_model("bert")
    everything = resolve_targets(bert, "all-linear", ["classifier"])
    second = resolve_targets(bert, "all-linear", ["classifier"], layers=[1])
    assert second == [name for name in everything if ".layer.1." in name]
    assert second


def test_a_layer_that_is_not_there(make_model):
    with pytest.raises(TargetError, match=r"layers_to_transform: no target module lies in layer 9; layers: \[0, 1"):
        resolve_targets(make_model("bert"), "all-linear", ["classifier"], layers=[0, 9])
