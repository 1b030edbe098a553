"""Address of a sweep's mirror: the Optuna storage in which other tools see its study. Checked without Optuna here."""

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator

AUTO = "auto"
JOURNAL = "journal:"
SERVERS = ("postgresql", "mysql")
PASSWORD_VARIABLE = "PRUNEDLORA_MIRROR_PASSWORD"
"""Environment variable with the password of the address's user, where the database's own way (PGPASSWORD and
~/.pgpass for PostgreSQL) is not to be taken."""
FORMS = "sqlite:///PATH, postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE, journal:PATH, auto or null"


def mirror_address(text: str) -> str:
    """`text`, an address that can be one. Raises ValueError, which never shows a password."""
    if text == AUTO:
        return text
    if text.startswith(JOURNAL):
        if text == JOURNAL:
            raise ValueError(f"{text!r} names no file; write journal:PATH")
        return text
    scheme, separator, rest = text.partition("://")
    dialect = scheme.partition("+")[0]
    # Where it is no address that is known, or none at all, it may still have a password in it: none is shown.
    if not separator or dialect not in ("sqlite", *SERVERS):
        raise ValueError(f"no address of a mirror; it is one of {FORMS}")
    if dialect == "sqlite":
        if rest.partition("?")[0] in ("", "/", "/:memory:"):
            raise ValueError(f"{text!r} names no file, and others could not look into it; write sqlite:///PATH")
        return text
    user, _, place = rest.rpartition("@")
    if ":" in user or "password" in parse_qs(urlsplit(text).query):
        raise ValueError(
            "an address with a password would end up in the store and in reports; leave it out here "
            f"({scheme}://USER@HOST/DATABASE) and give it in the environment variable {PASSWORD_VARIABLE}, or as the "
            "database's own tools take it (PGPASSWORD, ~/.pgpass)"
        )
    if not place.partition("/")[2].partition("?")[0]:
        raise ValueError(f"names no database; write {scheme}://USER@HOST/DATABASE")
    return text


MirrorAddress = Annotated[str, AfterValidator(mirror_address)]
