"""Sums over real processes (gloo)."""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from prunedlora.training.distributed import PeerLostError, Workers
from tests.ranks import context, run_ranks


def _worker(rank: int, path: str, results: "mp.SimpleQueue[object]") -> None:
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    workers = Workers(rank, 2, torch.device("cpu"))
    tensors = [torch.full((2, 3), 1.0 + rank), torch.tensor([10.0 * rank], dtype=torch.float64), torch.empty(0, 4)]
    workers.sum_(tensors)
    results.put((rank, [t.tolist() for t in tensors], workers.gather(f"r{rank}"), workers.from_first(rank)))
    dist.destroy_process_group()


def test_sums_and_gathers_over_two_processes(tmp_path: object) -> None:
    results = context().SimpleQueue()
    assert run_ranks(_worker, 2, f"{tmp_path}/rendezvous", results) == [0, 0]
    got = sorted(results.get() for _ in range(2))
    for rank in range(2):
        assert got[rank] == (rank, [[[3.0] * 3] * 2, [10.0], []], ["r0", "r1"], 0)


def _left_alone(rank: int, path: str, results: "mp.SimpleQueue[object]") -> None:
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    workers = Workers(rank, 2, torch.device("cpu"))
    workers.sum_([torch.ones(1)])
    if rank == 1:
        os._exit(1)  # killed
    for collective in (lambda: workers.sum_([torch.ones(1)]), lambda: workers.gather(rank)):
        try:
            collective()
        except PeerLostError as error:
            results.put(str(error))


def test_who_is_left_alone_says_so(tmp_path: object) -> None:
    results = context().SimpleQueue()
    run_ranks(_left_alone, 2, f"{tmp_path}/rendezvous", results)
    for _ in range(2):
        assert str(results.get()).startswith("another worker is gone: ")


def test_one_worker_touches_nothing() -> None:
    tensor = torch.ones(2)
    workers = Workers(0, 1, torch.device("cpu"))
    workers.sum_([tensor])
    assert tensor.tolist() == [1, 1]
    assert (workers.gather(1), workers.from_first("x")) == ([1], "x")
