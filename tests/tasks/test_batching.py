import torch
from torch import nn

from prunedlora.tasks.batching import by_length, evaluating, pad_inputs
from prunedlora.tasks.example import Example
from prunedlora.tasks.task import Features, Shortened


def test_padding_goes_to_the_side_asked_for() -> None:
    right = pad_inputs([[5, 6, 9], [9]], 9)
    assert right["input_ids"].tolist() == [[5, 6, 9], [9, 9, 9]]
    assert right["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    left = pad_inputs([[5, 6, 9], [9]], 9, side="left")
    assert left["input_ids"].tolist() == [[5, 6, 9], [9, 9, 9]]
    assert left["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


def test_every_example_is_in_one_batch_with_others_of_its_length() -> None:
    lengths = [3, 8, 1, 5, 8, 2, 7]
    features = [Features([0] * length, [0], Shortened.NOT, Example("p", "t")) for length in lengths]
    batches = list(by_length(features, 3))
    assert [[lengths[place] for place in batch] for batch in batches] == [[8, 8, 7], [5, 3, 2], [1]]
    assert sorted(place for batch in batches for place in batch) == list(range(7))


def test_evaluating_leaves_each_module_in_its_mode_even_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    model[1].eval()
    before = [module.training for module in model.modules()]
    try:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
            raise RuntimeError
    except RuntimeError:
        pass
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()
