"""Every random draw of a run is seeded by (seed, purpose, counters), so no generator state needs to be kept."""

import hashlib

import torch


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for one purpose, the same on every machine."""
    text = ":".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Seeds torch's global generators (CPU and GPU), which dropout inside the model draws from."""
    torch.manual_seed(derive_seed(seed, "dropout", step, rank))


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *counters))
