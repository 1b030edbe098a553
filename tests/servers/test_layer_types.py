from prunedlora.servers.layer_types import layer_type


def test_numbers_are_left_out():
    assert layer_type("model.layers.11.experts.3.q_proj") == "model.layers.*.experts.*.q_proj"
    assert layer_type("layer1.fc2") == "layer1.fc2"
