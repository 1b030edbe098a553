"""Address of a sweep's mirror: the Optuna storage in which other tools see its study. Checked without Optuna here."""

import os
import re
from typing import Annotated
from urllib.parse import parse_qsl, quote, quote_plus

from pydantic import AfterValidator

AUTO = "auto"
JOURNAL = "journal:"
SERVERS = ("postgresql", "mysql")
PASSWORD_VARIABLE = "PRUNEDLORA_MIRROR_PASSWORD"
"""Environment variable with the password of the address's user, where the database's own way (PGPASSWORD and
~/.pgpass for PostgreSQL) is not to be taken."""
SECRET = re.compile("pass|pwd|secret|token|key|credential", re.IGNORECASE)
"""In the name of a parameter whose value is for nobody else: passwd, sslpassword, sslkey, …"""
PASSWORD_IN_ADDRESS = re.compile(r"(://[^\s/:@]*:)[^\s/]*@")
"""Behind the user, up to the last @ before the path."""
MASK = "***"
FORMS = "sqlite:///PATH, postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE, journal:PATH, auto or null"


def mirror_address(text: str) -> str:
    """`text`, an address that can be one. Raises ValueError, which never shows a password, nor what may be one."""
    if text == AUTO:
        return text
    if text.startswith(JOURNAL):
        _check_journal(text.removeprefix(JOURNAL))
        return text
    scheme, separator, rest = text.partition("://")
    dialect = scheme.partition("+")[0]
    # Where it is no address that is known, or none at all, it may still have a password in it: none is shown.
    if not separator or dialect not in ("sqlite", *SERVERS):
        raise ValueError(f"no address of a mirror; it is one of {FORMS}")
    place, _, query = rest.partition("?")
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if SECRET.search(name):
            raise _with_password(f"its parameter {name!r}", scheme)
    if dialect == "sqlite":
        _check_sqlite(text, place)
    else:
        _check_server(scheme, rest, place)
    return text


def shown(address: str) -> str:
    """For messages: without the values of its parameters, of which any may be meant for nobody."""
    place, mark, _ = address.partition("?")
    return address if not mark or address.startswith(JOURNAL) else f"{place}?…"


def masked(text: str, address: str) -> str:
    """What others say of an address, without what is not `shown` of it, and without any password: the one in
    PASSWORD_VARIABLE, as it is or as an address has it, and what stands for one in an address."""
    password = os.environ.get(PASSWORD_VARIABLE)
    for secret in {password, quote(password, safe=""), quote_plus(password)} if password else ():
        text = text.replace(secret, MASK)
    text = PASSWORD_IN_ADDRESS.sub(rf"\1{MASK}@", text)
    if address.startswith(JOURNAL):
        return text
    query = address.partition("?")[2]
    values = [*(value for _, value in parse_qsl(query)), *(part.partition("=")[2] for part in query.split("&"))]
    for value in sorted({value for value in values if value}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, text)
    return text


def _check_journal(path: str) -> None:
    if not path.strip():
        raise ValueError(f"{JOURNAL + path!r} names no file; write journal:PATH")
    if "://" in path:
        raise ValueError("behind journal: stands the path of a file, no other address; write journal:PATH")


def _check_sqlite(text: str, place: str) -> None:
    if place and not place.startswith("/"):
        raise ValueError(
            "sqlite:// takes another slash before its path: write sqlite:///PATH (sqlite:////PATH from the root)"
        )
    path = place[1:]
    if not path.strip() or path == ":memory:" or path.startswith("file:"):
        raise ValueError(f"{shown(text)!r} names no file, and others could not look into it; write sqlite:///PATH")


def _check_server(scheme: str, rest: str, place: str) -> None:
    if ":" in rest.rpartition("@")[0]:
        raise _with_password("an address with a password", scheme)
    host, _, database = place.rpartition("@")[2].partition("/")
    port = host.rpartition("]")[2].partition(":")[2]
    if port and not (port.isascii() and port.isdecimal()):
        # What stands there may be a password whose user was left out.
        raise ValueError(f"its port is no number; write {scheme}://USER@HOST:PORT/DATABASE")
    if not database:
        raise ValueError(f"names no database; write {scheme}://USER@HOST/DATABASE")


def _with_password(what: str, scheme: str) -> ValueError:
    return ValueError(
        f"{what} would end up in the store and in reports; leave it out here ({scheme}://USER@HOST/DATABASE) and give "
        f"passwords in the environment variable {PASSWORD_VARIABLE}, or as the database's own tools take them "
        "(PGPASSWORD, ~/.pgpass)"
    )


MirrorAddress = Annotated[str, AfterValidator(mirror_address)]
