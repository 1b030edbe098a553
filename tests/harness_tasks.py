"""Local tasks for lm-evaluation-harness, with documents of their own: nothing is fetched."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.tiny import WORDS

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
