"""A merged model's configuration for readers that are older than transformers 5, or have one of their own.

transformers 5 writes all of a rotary embedding in `rope_parameters`. Others look for `rope_theta` and `rope_scaling`,
and take 10,000 for the former without a word where it is missing: mlx-lm's Llama, and whatever has transformers 4.
https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/models/llama.py (ModelArgs)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import CONFIG_NAME

OWN_KEYS = ("rope_theta", "partial_rotary_factor")
"""What older configurations have beside `rope_scaling`, not in it."""


def write_older_keys(folder: Path) -> None:
    """Adds to `config.json` in `folder` what older readers look for; transformers 5 reads the same from it as before.

    Models with one rotary embedding per type of layer are left as they are: each has names of its own for them.
    """
    file = folder / CONFIG_NAME
    found = with_older_keys(json.loads(file.read_text("utf-8")))
    file.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def with_older_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a configuration, and of those inside of it (a `text_config`)."""
    found = {name: with_older_keys(value) if isinstance(value, dict) else value for name, value in config.items()}
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope:
        return found
    found |= {name: rope[name] for name in OWN_KEYS if name in rope}
    if rope.get("rope_type", "default") != "default":
        found["rope_scaling"] = {name: value for name, value in rope.items() if name not in OWN_KEYS}
    return found
