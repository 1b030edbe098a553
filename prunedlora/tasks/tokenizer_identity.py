"""A tokenizer by its content, wherever it was loaded from."""

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from prunedlora.checksums import file_sha256

OS_ERROR = re.compile(r"\(os error (\d+)\)")


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Its class and a sha256 over the files that it is saved as: vocabulary, rules, special tokens.

    The class of a tokenizer that brings its own code is in a module named after the repository's commit, or is saved
    with the rest. Raises OSError where the files have no room.
    """
    tokenizer("")  # a truncation that was asked for before is part of what is saved
    kind, digest = type(tokenizer), hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        _save(tokenizer, folder)
        for file in sorted(file for file in Path(folder).rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(folder).as_posix()} {file_sha256(file)}\n".encode())
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "files": digest.hexdigest(),
        "truncation_side": tokenizer.truncation_side,  # saved as it was loaded
    }


def _save(tokenizer: PreTrainedTokenizerBase, folder: str) -> None:
    """Raises OSError also for what the package tokenizers, which is not written in Python, calls an Exception."""
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        number = OS_ERROR.search(str(error))
        if isinstance(error, OSError) or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), folder) from error
