"""Where a trial ran: package versions, commit, device; what a later reader needs to trust or repeat a figure."""

import importlib.metadata
import subprocess
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import torch

from prunedlora.adapters.adapted_share import AdaptedShare
from prunedlora.results.record import Environment
from prunedlora.results.share_text import FACT
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import Assets

PACKAGES = (
    "prunedlora", "torch", "transformers", "peft", "ray", "optuna", "datasets", "safetensors", "numpy", "reasoning-gym",
    "lm-eval",
)  # fmt: skip


def environment(workers: Workers, assets: Assets | None, share: AdaptedShare | None = None) -> Environment:
    """This process's environment; without assets (the trial failed before they were loaded) their facts are empty.
    `share`: what part of the model is adapted, where that is known."""
    commit, dirty = _git_state()
    adapted = {} if share is None else {FACT: asdict(share)}
    return Environment(
        packages=versions(),
        git_commit=commit,
        git_dirty=dirty,
        device=torch.cuda.get_device_name() if workers.device.type == "cuda" else workers.device.type,
        num_workers=workers.num_workers,
        num_threads=torch.get_num_threads(),
        model=assets.model_facts | adapted if assets else {},
        data=assets.data_facts if assets else {},
    )


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Distribution → version of what figures depend on, as installed here."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


@lru_cache(maxsize=1)
def _git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this package runs from and whether it has changes; None where it is none."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", str(folder)))
    except (OSError, subprocess.CalledProcessError):
        return None, None
