"""Local tasks for lm-evaluation-harness with documents of their own, so nothing is fetched; and a trial measured so."""

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep.preflight import preflight
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.base_reference import measure_base
from prunedlora.trial.execute import execute_trial
from tests.tiny import WORDS, decoder_tree

ALONE = Workers(0, 1, torch.device("cpu"))

INSTALLED = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.needs("harness")
CHOICE = """task: word_side
dataset_path: json
dataset_kwargs: {data_files: {test: DATA, train: DATA}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{first}} {{second}}:"
doc_to_choice: [alpha, river, house]
doc_to_target: "{{label}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
WRITTEN = """task: first_word
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{first}} {{second}}: "
doc_to_target: "{{first}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 6}
num_fewshot: 0
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
filter_list:
  - {name: letters, filter: [{function: regex, regex_pattern: "([a-z])", group_select: 0}, {function: take_first}]}
"""
TEXT = """task: all_text
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{first}} {{second}}"
metric_list: [{metric: bits_per_byte}]
"""
GROUP = """group: words
task: [word_side, first_word]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""


def write_tasks(folder: Path, num_documents: int = 24) -> Path:
    """Files of three tasks, `word_side`, `first_word` and `all_text`, and their data, in a new folder."""
    folder.mkdir(parents=True)
    rows = [{"first": WORDS[n % 8], "second": WORDS[(3 * n + 1) % 8], "label": n * n % 3} for n in range(num_documents)]
    data = folder.parent / f"{folder.name}.json"
    data.write_text(json.dumps(rows))
    for name, text in (("word_side", CHOICE), ("first_word", WRITTEN), ("all_text", TEXT)):
        (folder / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    return folder


def run(trial: TrialConfig, store: Store, assets: AssetCache) -> TrialRecord:
    execute_trial(
        trial, trial_key(trial), store=store, assets=assets, workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    record = store.read_record(trial_key(trial))
    assert record is not None
    return record


def checksum(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def trained_and_measured(folder: Path) -> tuple[Store, TrialRecord, Path]:
    """A store with one pruned decoder, measured at its end and as a base, and its task files."""
    tasks = write_tasks(folder / "tasks")
    asked = [str(tasks / "word_side.yaml"), str(tasks / "all_text.yaml")]
    tree = decoder_tree(folder, folder / "store", harness_tasks=asked, harness={"limit": 20})
    store = Store(str(folder / "store"))
    store.create_or_open(tree)
    config = parse_sweep(tree, "test")
    preflight(config)
    trial, assets = config.trial, AssetCache(ALONE.device)
    before = checksum(assets.get(trial).base.model)
    record = run(trial, store, assets)
    measure_base(trial, store=store, assets=assets, workers=ALONE)
    assert checksum(assets.get(trial).base.model) == before
    return store, record, tasks
