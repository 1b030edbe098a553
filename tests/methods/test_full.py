import torch

from prunedlora.adapters.size import measure_full


def test_all_weights_of_a_copy_train_and_the_base_does_not(make_base, make_method, make_optimizer, train):
    base = make_base().bfloat16()
    before = {name: parameter.clone() for name, parameter in base.named_parameters()}
    method = make_method("full")
    model = method.attach(base, "default")
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    train(method, model, make_optimizer(model, method))
    changed = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, start[name])]
    assert "bert.encoder.layer.0.attention.self.query.weight" in changed
    assert "bert.embeddings.word_embeddings.weight" in changed
    assert all(torch.equal(parameter, before[name]) for name, parameter in base.named_parameters())


def test_its_size_counts_every_weight_outside_of_the_head(make_base):
    base = make_base()
    size = measure_full(base, ["bert.pooler", "classifier"])
    head = 8 * 8 + 8 + 8 * 3 + 3
    assert size.head_params == head
    assert size.adapter_params == sum(parameter.numel() for parameter in base.parameters()) - head
    assert size.ranks == {}
    assert size.max_rank == 8
    assert size.served_slot is None
