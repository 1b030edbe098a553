"""The order of examples is a function of seed and position; workers share one global batch."""

import pytest

from prunedlora.seeds import derive_seed, generator
from prunedlora.training.data import BatchOrder, num_epoch_steps


def order(**changes: int | None) -> BatchOrder[int]:
    settings: dict[str, int | None] = {"batch_size": 6, "micro_batch_size": None, "seed": 3, **changes}
    return BatchOrder(list(range(20)), **settings)  # type: ignore[arg-type]


def step_of(order: BatchOrder[int], step: int, rank: int = 0, num_workers: int = 1) -> list[list[int]]:
    return list(order.micro_batches(step, rank, num_workers))


def test_every_pass_sees_every_example_once() -> None:
    seen = [example for step in range(10) for batch in step_of(order(), step) for example in batch]
    for epoch in range(3):
        assert sorted(seen[20 * epoch : 20 * (epoch + 1)]) == list(range(20))
    assert seen[:20] != seen[20:40]


def test_the_seed_decides_the_order() -> None:
    assert step_of(order(), 4) == step_of(order(), 4)
    assert step_of(order(), 0) != step_of(order(seed=4), 0)


@pytest.mark.parametrize("num_workers", [2, 3, 4])
def test_workers_share_the_global_batch(num_workers: int) -> None:
    whole = step_of(order(), 2)[0]
    shares = [[i for part in step_of(order(), 2, rank, num_workers) for i in part] for rank in range(num_workers)]
    assert sorted(example for share in shares for example in share) == sorted(whole)
    assert [shares[i % num_workers][i // num_workers] for i in range(6)] == whole


def test_micro_batches_split_the_share_in_order() -> None:
    parts = step_of(order(micro_batch_size=4), 1)
    assert [len(part) for part in parts] == [4, 2]
    assert parts[0] + parts[1] == step_of(order(), 1)[0]


def test_epochs_round_up_to_steps() -> None:
    assert [num_epoch_steps(len(order().features), order().batch_size, n) for n in (0.1, 1.0, 1.5)] == [1, 4, 5]


def test_seeds_differ_by_purpose_and_counter() -> None:
    seeds = [
        derive_seed(0, "order", 0),
        derive_seed(0, "order", 1),
        derive_seed(0, "dropout", 0),
        derive_seed(1, "order"),
    ]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert generator(0, "x").initial_seed() == derive_seed(0, "x")
