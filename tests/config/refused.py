"""Spoiling a sweep, and what is said about it."""

from typing import Any

import pytest

from prunedlora.config.load import ConfigError, parse_sweep


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[leaf] = value


def error_of(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_sweep(tree, "x.yaml")
    return str(caught.value)
