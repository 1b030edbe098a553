"""Asking a server in an environment of its own, and comparing what it answers; here the server is a script."""

import sys
from pathlib import Path

import numpy as np
import pytest

from prunedlora.benchmarks.product.served_logits import ServerError, as_answers, ask
from prunedlora.benchmarks.product.unequal_adapter import compared

ECHO = """
import json, sys
asked = json.load(open(sys.argv[1]))
answers = {name: {p: [float(sum(ids)), asked["rank"]] for p, ids in asked["prompts"].items()}
           for name in ["base", *asked["adapters"]]}
json.dump({"version": "0." + asked["model"], "answers": answers}, open(sys.argv[2], "w"))
"""


def test_a_script_is_asked_and_answers(tmp_path: Path) -> None:
    """Its request has the slot that holds the rank."""
    (tmp_path / "echo.py").write_text(ECHO)
    adapters = {"uniform": tmp_path}
    version, found = ask(tmp_path / "echo.py", Path(sys.executable), Path("1"), {"a": [2, 3]}, adapters, 9)
    assert version == "0.1"
    assert found == {"base": {"a": [5.0, 16]}, "uniform": {"a": [5.0, 16]}}
    np.testing.assert_array_equal(as_answers(found["base"])["a"], [5.0, 16.0])


def test_a_script_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("raise SystemExit('no room for the cache')")
    with pytest.raises(ServerError, match=r"fails\.py ended with code 1: no room for the cache"):
        ask(tmp_path / "fails.py", Path(sys.executable), Path("m"), {}, {}, 8)


def test_a_change_twice_as_large_is_apart_by_the_change_itself() -> None:
    plain, its_plain, change = np.zeros(4), np.full(4, 0.5), np.array([1.0, -1.0, 3.0, -3.0])
    found = compared(plain, plain + change, its_plain, its_plain + 2 * change)
    assert found == pytest.approx({"change": 5**0.5, "apart": 1.0, "correlation": 1.0})
    assert compared(plain, plain + change, its_plain, its_plain + change)["apart"] == 0
