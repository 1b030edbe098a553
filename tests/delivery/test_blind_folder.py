"""Blind cuts written out: plain PEFT folders whose updates are the cuts', beside their figures and a picture."""

import json
import shutil
from pathlib import Path

import pytest

from prunedlora.adapters.existing import ExistingAdapter
from prunedlora.adapters.export import LABELS_FILE
from prunedlora.config.schedule import SizesConfig
from prunedlora.delivery.blind_cuts import describe_shrink
from prunedlora.delivery.blind_folder import write_blind
from prunedlora.delivery.form import ExportError
from tests.plain_adapters import loaded, saved_adapter, updates


def test_every_cut_is_a_folder_that_plain_peft_loads_as_that_cut(tmp_path: Path) -> None:
    whole = updates(saved_adapter(tmp_path / "theirs", modules_to_save=["score"]))
    (tmp_path / "theirs" / LABELS_FILE).write_text('{"0": "a", "1": "b", "2": "c"}')
    existing = ExistingAdapter("theirs", tmp_path / "theirs")
    report = describe_shrink(existing, SizesConfig(mean_rank=[3, 0.5]))
    folders = write_blind(existing, report, tmp_path / "out")
    tree = json.loads((tmp_path / "out" / "shrink.json").read_text())
    assert list(folders) == [each["adapter_path"] for each in tree["cuts"]]
    assert list(folders) == ["mean_rank-3-uniform", "mean_rank-3-global_per_parameter",
                             "mean_rank-0.5-global_per_parameter"]  # fmt: skip
    for each, entry, folder in zip(report.cuts, tree["cuts"], folders.values(), strict=True):
        assert entry["read_back"] < 1e-6
        assert (folder / LABELS_FILE).read_text() == '{"0": "a", "1": "b", "2": "c"}'
        found = updates(loaded(folder))
        kept = {layer.name: rank for layer, rank in zip(report.layers, each.ranks, strict=True) if rank}
        assert found.keys() == kept.keys()
        for layer, change in zip(report.layers, each.changes, strict=True):
            if layer.name in found:
                difference = float((whole[layer.name] - found[layer.name]).norm()) / layer.norm
                assert difference == pytest.approx(change, rel=1e-5)
    assert (tmp_path / "out" / "change.png").read_bytes().startswith(b"\x89PNG")
    again = write_blind(existing, report, tmp_path / "again")
    for name, folder in folders.items():
        for file in folder.iterdir():
            assert file.read_bytes() == (again[name] / file.name).read_bytes()
    assert (tmp_path / "out" / "change.png").read_bytes() == (tmp_path / "again" / "change.png").read_bytes()


def test_a_folder_that_is_there_is_refused_and_an_adapter_that_has_changed_leaves_none(tmp_path: Path) -> None:
    saved_adapter(tmp_path / "theirs")
    existing = ExistingAdapter("theirs", tmp_path / "theirs")
    report = describe_shrink(existing, SizesConfig(kept=[0.3]))
    with pytest.raises(ExportError, match="exists; give a new folder"):
        write_blind(existing, report, tmp_path / "theirs")
    shutil.rmtree(tmp_path / "theirs")
    saved_adapter(tmp_path / "theirs", r=5)
    with pytest.raises(ExportError, match="has changed since it was read: start again"):
        write_blind(existing, report, tmp_path / "out")
    assert not (tmp_path / "out").exists()
