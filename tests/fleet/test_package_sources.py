"""One prunedlora in all processes of a run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import prunedlora
from prunedlora.fleet.package_sources import OtherSourcesError, check_sources, own_sources

TELL = "from prunedlora.fleet.package_sources import own_sources; print(*own_sources(), sep='\\n')"


def sources_in(folder: Path) -> tuple[str, str, str]:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    told = subprocess.run([sys.executable, "-c", TELL], env=environment, cwd=folder, capture_output=True, check=True)
    version, digest, where = told.stdout.decode().split("\n")[:3]
    return version, digest, where


def test_a_copy_is_the_same_prunedlora_and_one_changed_line_makes_another(tmp_path: Path) -> None:
    copy = tmp_path / "prunedlora"
    shutil.copytree(Path(prunedlora.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    same = sources_in(tmp_path)
    assert same == (*own_sources()[:2], str(copy))
    check_sources(own_sources(), same, "slot 0 on node n")
    (copy / "fleet" / "board.py").write_text((copy / "fleet" / "board.py").read_text() + "\n# later\n")
    with pytest.raises(OtherSourcesError, match=f"^slot 0 on node n imports prunedlora .* from {copy}, the driver .*"):
        check_sources(own_sources(), sources_in(tmp_path), "slot 0 on node n")
    with pytest.raises(OtherSourcesError, match=f"{copy} has changed since"):
        check_sources(same, sources_in(tmp_path), "slot 0 on node n")
