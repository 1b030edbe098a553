"""Tokenised splits, each made once per node: whoever comes first writes a file, all processes of all slots map it.

The files lie in a folder of the node's own (node_folder.py), each named after all that decides its content.
"""

import hashlib
import importlib.metadata
import inspect
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import prunedlora.tasks
from prunedlora.checksums import file_sha256
from prunedlora.node_folder import alone, appearing, node_folder, tidy, told
from prunedlora.tasks.example import Example
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import Task
from prunedlora.tasks.tokenised import PART, BrokenTokensError, TokenisedSplit, read_tokens, write_tokens

WHAT = "tokenised data"
PACKAGES = ("tokenizers", "transformers", "sentencepiece", "tiktoken", "mistral-common", "pyarrow")
"""Whose versions may change tokens, or the file."""

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def tokenised(task: Task, splits: Splits) -> dict[SplitName, TokenisedSplit]:
    """The features of all splits, out of this node's files, which are written where they are not there. Validation and
    test keep their texts, which answers are compared with.

    Raises DataError as `task.encode`, NodeFolderError where the node cannot hold the files.
    """
    folder, code = node_folder("tokens", WHAT), _code(type(task))
    found: dict[SplitName, TokenisedSplit] = {}
    with told(folder, WHAT):
        encoding = task.encoding  # which writes a tokenizer's files, there too
        for split in SPLITS:
            examples: tuple[Example, ...] = getattr(splits, split)
            key = _key([splits.fingerprint, split, _templates(examples), encoding, code, _versions(), PART])
            path = folder / f"{key}.arrow"
            found[split] = _read_or_write(path, task, examples, () if split == "train" else examples)
    return found


def _read_or_write(path: Path, task: Task, examples: Sequence[Example], texts: Sequence[Example]) -> TokenisedSplit:
    with alone(path):
        try:
            split = read_tokens(path, len(examples), texts)
            os.utime(path)
        except (FileNotFoundError, BrokenTokensError):  # of a machine that went down: what it has is written again
            split = _write(path, task, examples, texts)
            tidy(path)
    return split


def _write(path: Path, task: Task, examples: Sequence[Example], texts: Sequence[Example]) -> TokenisedSplit:
    """Appears whole under its name, and is open before that: whoever tidies comes too late."""
    with appearing(path) as part:
        write_tokens(part, task, examples, prompts=bool(texts))
        split = read_tokens(part, len(examples), texts)
    return split


def _key(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _templates(examples: Sequence[Example]) -> list[Any]:
    """What the examples' templates say themselves, which the fingerprint of their texts does not tell; a row of equal
    ones is one entry."""
    runs = groupby(examples, key=lambda example: (example.prompt_literals, example.target_literals))
    return [[literals, sum(1 for _ in run)] for literals, run in runs]


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@cache
def _code(kind: type) -> str:
    """sha256 over the source of tasks/ and of the task's own file: no version number to forget."""
    files = [file for home in prunedlora.tasks.__path__ for file in sorted(Path(home).glob("*.py"))]
    digests = [file_sha256(file) for file in (*files, Path(inspect.getfile(kind)))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
