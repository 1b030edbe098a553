import pytest
import torch
from torch import nn

from prunedlora.adapters.plain import plain_layers
from prunedlora.methods.adalora import orthogonality_penalty


def test_the_budget_is_met_at_the_end_and_stays(make_base, make_method, make_optimizer, train):
    method = make_method("adalora")
    model = method.attach(make_base(), "default")
    events = train(method, model, make_optimizer(model, method))
    ranks = [layer.rank for layer in plain_layers(model, "default")]
    assert sum(ranks) == 2 * len(ranks)
    assert events[-1].step <= 10
    assert sum(events[-1].ranks.values()) == sum(ranks)


def test_the_penalty_is_the_one_that_peft_adds_to_outputs_with_a_loss(make_base, make_method):
    method = make_method("adalora", orthogonality=1.0)
    model = method.attach(make_base(), "default").eval()
    batch = {"input_ids": torch.arange(1, 9)[None], "labels": torch.tensor([1])}
    output = model.base_model(**batch)  # the PeftModel around it asks no tuner unless it has a task type
    plain = nn.functional.cross_entropy(output.logits, batch["labels"])
    modules = [module for module in model.modules() if "default" in getattr(module, "lora_E", ())]
    penalty = orthogonality_penalty([(module.lora_A["default"], module.lora_B["default"]) for module in modules])
    torch.testing.assert_close(output.loss - plain, penalty, rtol=1e-5, atol=1e-5)


def test_penalising_adds_the_gradient_that_peft_s_loss_has(make_base, make_method):
    gradients = []
    for by_peft in (True, False):
        method = make_method("adalora", orthogonality=0.7)
        method.adapter = type(method.adapter)(**{**vars(method.adapter), "dropout": 0.0})
        model = method.attach(make_base(), "default").eval()
        batch = {"input_ids": torch.arange(1, 9)[None], "labels": torch.tensor([1])}
        output = model.base_model(**batch) if by_peft else model(**batch)
        loss = output.loss if by_peft else nn.functional.cross_entropy(output.logits, batch["labels"])
        loss.backward()
        if not by_peft:
            method.penalise()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("begin", "end", "every"), [(0.5, 0.52, 1), (0.2, 0.8, 9), (0.0, 0.01, 1)])
def test_a_training_too_short_for_its_schedule_is_refused(begin, end, every, make_method):
    with pytest.raises(ValueError, match=r"from step \d to \d+ of 12 there is no room for an allocation"):
        make_method("adalora", begin=begin, end=end, every_steps=every)


def test_a_state_of_another_method_is_refused(make_method, make_base):
    method = make_method("adalora")
    method.attach(make_base(), "default")
    with pytest.raises(ValueError, match="method 'adalora' keeps sensitivity, uncertainty, mask, but got num_observed"):
        method.load_state_dict({"num_observed": torch.tensor(1)})
