"""What is said of a path that does not exist: where it was looked for, and what is there that it may have meant."""

import difflib
import os
from pathlib import Path

MOST_NAMED = 3


def looked_for(name: str) -> str:
    """`looked for <absolute path>`, and near names in the first of its folders that lacks the next part."""
    path = Path(name).expanduser().absolute()
    missing = next((part for part in reversed((path, *path.parents)) if not part.exists()), path)
    try:
        there = sorted(os.listdir(missing.parent))
    except OSError:  # not a folder, or none that we may read
        there = []
    close = difflib.get_close_matches(missing.name, there, n=MOST_NAMED, cutoff=0.7)
    return f"looked for {path}" + (
        f"; there is {', '.join(str(missing.parent / one) for one in close)}" if close else ""
    )
