"""What a server makes of an adapter of unequal ranks, in each form that it may take: the change of the next token's log
probabilities, against PEFT's. The server runs in an environment of its own, by a script that needs nothing of ours."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.torch import load_file

from prunedlora.adapters.export import CONFIG_NAME, KEY_PREFIX, WEIGHTS_NAME
from prunedlora.adapters.mlx_adapter import write_mlx
from prunedlora.adapters.repack import A_SUFFIX, make_uniform, merge
from prunedlora.adapters.size import served_layers
from prunedlora.benchmarks.product import mlx_answers, vllm_answers
from prunedlora.benchmarks.product.unequal_adapter import (
    Answers,
    Prompts,
    answers_of,
    answers_with,
    compared,
    write_unequal,
)
from prunedlora.delivery.older_readers import write_older_keys
from prunedlora.servers.served_slot import served_slot

Writer = Callable[[Any, Path, Path], None]
"""(model, exported folder, new folder) → the adapter in another form."""


class ServerError(RuntimeError):
    """A server's script that ended without an answer."""


def as_trained(model: Any, folder: Path, to: Path) -> None:
    """As it is."""
    shutil.copytree(folder, to)


def uniform(model: Any, folder: Path, to: Path) -> None:
    """Of one rank, the largest."""
    shutil.copytree(folder, to)
    widths = served_layers(model)
    assert widths is not None
    make_uniform(to, json.loads((folder / CONFIG_NAME).read_text("utf-8"))["r"], widths.linear)


def in_mlx(model: Any, folder: Path, to: Path) -> None:
    """In MLX's own format."""
    write_mlx(folder, to, model.config.num_hidden_layers)


@dataclass(frozen=True)
class Asked:
    """One server."""

    script: Path
    forms: Mapping[str, Writer]
    """Of adapters; merged models are tried on every server."""


SERVERS = {
    "vllm": Asked(Path(vllm_answers.__file__), {"trained": as_trained, "uniform": uniform}),
    "mlx": Asked(Path(mlx_answers.__file__), {"mlx": in_mlx}),
}


def served_logits(
    model: Any, server: str, python: Path, prompts: Prompts, scratch: Path, adapter: Path | None = None
) -> dict[str, Any]:
    """`version`, `ranks`, `largest_difference_of_base`, and `forms`: form → prompt → figures (`compared`), or the text
    of the server's refusal.

    `model`: a language model in float32; `python`: the interpreter of the server's environment; `adapter`: an exported
    folder, None for one that is made up. Writes the model and adapters into the folder `scratch`. Raises ServerError.
    """
    asked = SERVERS[server]
    model.save_pretrained(scratch / "base")
    write_older_keys(scratch / "base")
    if adapter is None:
        write_unequal(model, adapter := scratch / "peft")
    ranks = exported_ranks(adapter)
    plain, trained = answers_of(model, prompts), answers_with(model, adapter, dict.fromkeys(ranks, 1.0), prompts)
    for form, write in asked.forms.items():
        write(model, adapter, scratch / form)
    merge(deepcopy(model), adapter).save_pretrained(scratch / "merged")
    write_older_keys(scratch / "merged")
    rank, folders = max(ranks.values()), {form: scratch / form for form in asked.forms}
    version, found = ask(asked.script, python, scratch / "base", prompts, folders, rank)
    base = as_answers(found.pop("base"))
    _, whole = ask(asked.script, python, scratch / "merged", prompts, {}, rank)
    found["merged"] = whole["base"]
    return {
        "version": version,
        "ranks": ranks,
        "largest_difference_of_base": {name: float(np.abs(base[name] - plain[name]).max()) for name in prompts},
        "forms": {
            form: its if isinstance(its, str) else compared_all(plain, trained, base, as_answers(its))
            for form, its in found.items()
        },
    }


def exported_ranks(folder: Path) -> dict[str, int]:
    """Layer → rank of an exported adapter."""
    state = load_file(folder / WEIGHTS_NAME)
    return {
        name.removeprefix(KEY_PREFIX).removesuffix(A_SUFFIX): len(tensor)
        for name, tensor in state.items()
        if name.endswith(A_SUFFIX)
    }


def ask(
    script: Path, python: Path, model: Path, prompts: Prompts, adapters: Mapping[str, Path], rank: int
) -> tuple[str, dict[str, Any]]:
    """The server's version, and its answers by adapter and prompt as the script writes them."""
    with TemporaryDirectory() as scratch:
        request, answer = Path(scratch, "request.json"), Path(scratch, "answer.json")
        given: dict[str, Any] = {"model": str(model), "rank": served_slot(rank)}
        given["prompts"] = {name: list(ids) for name, ids in prompts.items()}
        given["adapters"] = {name: str(folder) for name, folder in adapters.items()}
        request.write_text(json.dumps(given), "utf-8")
        # Isolated: neither our folders nor our PYTHONPATH are of that environment.
        command = [str(part) for part in (python.absolute(), "-I", script, request, answer)]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=scratch)
        if ended.returncode or not answer.exists():
            raise ServerError(f"{python} {script.name} ended with code {ended.returncode}: {ended.stderr[-2000:]}")
        found = json.loads(answer.read_text("utf-8"))
    return found["version"], found["answers"]


def as_answers(found: Mapping[str, Sequence[float]]) -> Answers:
    """From JSON."""
    return {prompt: np.array(row, dtype=np.float64) for prompt, row in found.items()}


def compared_all(plain: Answers, trained: Answers, its_plain: Answers, its: Answers) -> dict[str, dict[str, float]]:
    """By prompt."""
    return {name: compared(plain[name], trained[name], its_plain[name], its[name]) for name in plain}
