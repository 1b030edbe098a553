"""What a record of an earlier version is taken for, where the configuration did not say it yet."""

from pathlib import Path
from typing import Any

import pytest

from prunedlora.delivery.recorded_trial import recorded_trial
from tests.inventions import invented_record, sweep_tree


@pytest.mark.parametrize(("said", "stratify"), [({}, False), ({"stratify": None}, None), ({"stratify": True}, True)])
def test_a_record_from_before_classes_were_counted_was_cut_at_random(
    tmp_path: Path, said: dict[str, Any], stratify: bool | None
) -> None:
    trial = sweep_tree(tmp_path)["trial"]
    data = {**trial["data"], "num_validation": 10, "num_test": 10}
    for split in ("validation", "test"):
        data.pop(split, None)
    record = invented_record("a1", {**trial, "data": {**data, **said}})
    assert recorded_trial(record).data.stratify is stratify
