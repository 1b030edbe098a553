from prunedlora.adapters.layers import adapted_layers


def test_the_rank_stays(make_base, make_method, make_optimizer, train):
    method = make_method("lora")
    model = method.attach(make_base(), "default")
    assert train(method, model, make_optimizer(model, method)) == []
    assert {layer.rank for layer in adapted_layers(model, "default")} == {6}
    assert method.statistics() == []
    assert method.state_dict() == {}
