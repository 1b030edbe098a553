"""What every registered method promises the training loop."""

import copy
import inspect

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from prunedlora.adapters.export import export
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.shrink import set_factors
from prunedlora.adapters.size import measure
from prunedlora.adapters.verify import verify
from prunedlora.methods.method import Method
from prunedlora.registry import lookup, names


def trained_state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def assert_same(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", names("method"))
class TestConformance:
    def test_it_has_the_contract_with_its_parameters_and_no_function_beside(self, name):
        kind = lookup("method", name)
        assert issubclass(kind, Method)
        assert isinstance(kind.changes_rank, bool)
        assert (kind.section is None) == (kind.settings_type is None)
        contract = dict(inspect.getmembers(Method, inspect.isfunction))
        for member, function in inspect.getmembers(kind, inspect.isfunction):
            if member == "__init__" or not member.startswith("_"):
                # A misspelt override would silently leave the default in force.
                assert member in contract
                assert list(inspect.signature(function).parameters) == list(
                    inspect.signature(contract[member]).parameters
                )

    def test_training_and_detaching_leave_the_base_as_it_was(self, name, make_base, make_method, make_optimizer, train):
        base = make_base()
        before = {key: tensor.clone() for key, tensor in base.state_dict().items()}
        results = []
        for _ in range(2):
            method = make_method(name)
            model = method.attach(base, "default")
            events = train(method, model, make_optimizer(model, method))
            assert bool(events) == method.changes_rank
            results.append((events, trained_state(model)))
            method.close()
            method.detach(model)
            assert_same(base.state_dict(), before)
            assert not any(m._forward_hooks or m._forward_pre_hooks for m in base.modules())
        assert results[0][0] == results[1][0]
        assert_same(results[0][1], results[1][1])

    def test_closing_in_mid_training_removes_the_hooks(self, name, make_base, make_method, make_optimizer, train):
        method = make_method(name)
        model = method.attach(make_base(), "default")
        train(method, model, make_optimizer(model, method), last=2)
        method.close()
        assert not any(module._forward_hooks for module in model.modules())

    def test_state_and_statistics_are_tensors(self, name, make_base, make_method, make_optimizer, train):
        method = make_method(name)
        model = method.attach(make_base(), "default")
        assert all(isinstance(tensor, Tensor) for tensor in method.statistics())
        train(method, model, make_optimizer(model, method), last=4)
        assert all(isinstance(tensor, Tensor) for tensor in method.state_dict().values())

    def test_a_state_of_another_method_is_refused(self, name, make_base, make_method):
        method = make_method(name)
        method.attach(make_base(), "default")
        with pytest.raises(ValueError, match=r"\bstrange\b"):
            method.load_state_dict({"strange": torch.tensor(1)})

    @pytest.mark.parametrize("done", [2, 3, 7, 11])
    def test_resumed_equals_uninterrupted_bit_for_bit(self, done, name, make_base, make_method, make_optimizer, train):
        method = make_method(name)
        model = method.attach(make_base(), "default")
        optimizer = make_optimizer(model, method)
        events = train(method, model, optimizer, last=done)
        saved = trained_state(model)
        gates = {layer.name: layer.gate for layer in adapted_layers(model, "default")}
        gates = {name: None if gate is None else gate.detach().clone() for name, gate in gates.items()}
        moments = {i: {k: v.clone() for k, v in s.items()} for i, s in optimizer.state_dict()["state"].items()}
        state = {key: tensor.clone() for key, tensor in method.state_dict().items()}
        events += train(method, model, optimizer, first=done + 1)

        resumed = make_method(name)
        other = resumed.attach(make_base(), "default")
        its_optimizer = make_optimizer(other, resumed)
        for layer in adapted_layers(other, "default"):
            prefix = f"base_model.model.{layer.name}.lora_"
            A, B = (saved[f"{prefix}{factor}.default.weight"] for factor in "AB")
            set_factors(layer, A, B, its_optimizer, gates[layer.name])
        with torch.no_grad():
            for key, parameter in other.named_parameters():
                if key in saved:
                    parameter.copy_(saved[key])
        its_optimizer.load_state_dict({**its_optimizer.state_dict(), "state": moments})
        resumed.load_state_dict(state)
        later = train(resumed, other, its_optimizer, first=done + 1)
        assert later == [event for event in events if event.step > done]
        assert_same(trained_state(other), trained_state(model))


@pytest.mark.parametrize("name", [name for name in names("method") if name != "full"])  # which has none
def test_its_adapter_is_a_plain_peft_adapter(name, make_base, make_method, make_optimizer, train, tmp_path):
    """Exported after training: PEFT alone gives the same logits, merged too."""
    base = make_base()
    untouched = copy.deepcopy(base).eval()
    method = make_method(name)
    model = method.attach(base, "default")
    train(method, model, make_optimizer(model, method))
    batch = {"input_ids": torch.randint(1, 40, (3, 6), generator=torch.Generator().manual_seed(0))}
    export(model, "default", tmp_path, "some/base")
    certificate = verify(model, "default", tmp_path, batch, merged=True)
    assert certificate.max_logit_change > 0
    plain = PeftModel.from_pretrained(copy.deepcopy(untouched), tmp_path).eval()
    torch.testing.assert_close(plain(**batch).logits, model.eval()(**batch).logits, rtol=0, atol=1e-5)
    ranks = {layer.name: layer.rank for layer in adapted_layers(plain, "default")}
    assert ranks == {name: rank for name, rank in measure(model, "default").ranks.items() if rank}


@pytest.mark.parametrize("name", ["full", "l1ra", "lora", "svd"])
def test_a_method_without_state_says_which_it_is(name, make_method):
    with pytest.raises(ValueError, match=f"^method '{name}' keeps no state, but got a, b$"):
        make_method(name).load_state_dict({"b": torch.tensor(1), "a": torch.tensor(1)})
