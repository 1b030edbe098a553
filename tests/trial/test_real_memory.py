"""A process whose memory is limited by the system: torch's allocator really fails, and the trial goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prunedlora.config.identity import trial_key
from prunedlora.results.store import Store
from tests.trial.test_execute_methods import trial_of

SCRIPT = """
import re, resource, sys
from pathlib import Path
import torch
from prunedlora.tasks.text_classification import TextClassification
from prunedlora.trial.assets import AssetCache
from prunedlora.results.store import Store
from tests.trial.test_execute_memory import run
from tests.trial.test_execute_methods import trial_of

GIB = 2**30
trial, assets = trial_of("prunedlora", Path(sys.argv[1])), AssetCache(torch.device("cpu"))
assets.get(trial)
original_loss, original_evaluate = TextClassification.loss, TextClassification.evaluate

def loss(task, model, batch):
    held = torch.empty(len(batch["labels"]), GIB // 4, dtype=torch.uint8)
    return original_loss(task, model, batch)

def evaluate(task, model, features, *rest, **options):
    held = torch.empty(len(features), GIB // 8, dtype=torch.uint8)
    return original_evaluate(task, model, features, *rest, **options)

TextClassification.loss, TextClassification.evaluate = loss, evaluate
used = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 3 * GIB // 2,) * 2)
print(run(trial, Store(sys.argv[2]), assets))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts a process's own memory on Linux only")
def test_half_a_batch_fits_into_the_memory_that_there_is(tmp_path: Path) -> None:
    """A quarter GiB an example of a step and an eighth of an evaluation, one and a half at most: eight and twenty
    examples do not fit, four and ten do."""
    store, trial = Store(str(tmp_path / "store")), trial_of("prunedlora", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), store.uri],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout == "completed\n", done.stderr
    record = store.read_record(trial_key(trial))
    assert record is not None
    assert record.fit is not None
    assert (record.fit.halvings, record.fit.evaluation_halvings, record.fit.micro_batch_size) == (1, 3, 4)
