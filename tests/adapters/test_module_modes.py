import pytest
from torch import nn

from prunedlora.adapters.module_modes import in_evaluation_mode


def test_every_module_comes_back_to_its_own_mode():
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[0].eval()

    def fail():
        assert not any(module.training for module in model.modules())
        raise KeyError

    with pytest.raises(KeyError), in_evaluation_mode(model):
        fail()
    assert [module.training for module in model.modules()] == [True, False, True]
