"""Run by the interpreter of mlx-lm's own environment: a request in one JSON file → mlx-lm's answers in another.

Request and answers are those of vllm_answers.py, but that adapters are in MLX's own format.
"""

import json
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """What is said above."""
    mx: Any = import_module("mlx.core")
    utils: Any = import_module("mlx_lm.utils")
    answers: dict[str, Any] = {}
    for name, folder in {"base": None, **asked["adapters"]}.items():
        model, _ = utils.load_model(Path(asked["model"]))
        try:
            model = model if folder is None else utils.load_adapters(model, folder)
        except Exception as error:
            answers[name] = str(error)
            continue
        answers[name] = {}
        for prompt, ids in asked["prompts"].items():
            logits = model(mx.array([ids]))[0, -1].astype(mx.float32)
            answers[name][prompt] = (logits - mx.logsumexp(logits)).tolist()
    return {"version": version("mlx-lm"), "answers": answers}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text("utf-8")))), "utf-8")
