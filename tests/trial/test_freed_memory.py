from pathlib import Path

from prunedlora.trial.freed_memory import return_freed_memory


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_texts_that_are_gone_take_no_room() -> None:
    """The last of them keeps what lies before it, until the C library is asked."""
    texts = [bytes(5000) for _ in range(20_000)]
    last = texts[-1]
    del texts
    kept = anonymous_bytes()
    return_freed_memory()
    assert kept - anonymous_bytes() > 80e6
    assert len(last) == 5000
