"""The name of a candidate's adapter in a store, among the places where adapters are: store:STORE/KEY@NAME."""

STORED = "store:"
"""How it begins. Other places are folders and names on the Hub."""


def split_stored(name: str) -> tuple[str, str]:
    """Store (a path or URI, slashes and all) and candidate. Raises ValueError, saying what it should look like."""
    store, _, candidate = name.removeprefix(STORED).rpartition("/")
    if not store or not candidate:
        raise ValueError(
            f"{name!r} names no candidate: write {STORED}STORE/KEY@NAME, for example {STORED}runs/x/1a2b@180"
        )
    return store, candidate
