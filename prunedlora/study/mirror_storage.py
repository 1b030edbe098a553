"""Storages that a mirror may lie in: opened by their address, and looked at before a sweep starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from prunedlora.config.mirror_url import JOURNAL, PASSWORD_VARIABLE, masked, shown
from prunedlora.study.rebuild import quiet

if TYPE_CHECKING:
    from sqlalchemy import URL

CONNECT_SECONDS = 10
"""Given to a server to answer, before the sweep starts and at every later try."""
PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""Module that a database needs → what pip calls it, where that is another name."""
OWNER = "store"
"""User attribute of a study: the store that it is the mirror of."""


class MirrorError(RuntimeError):
    """A mirror that cannot be written; the message names the address, without a password, and the reason."""


@contextmanager
def opened(address: str) -> Iterator[BaseStorage]:
    """The storage, made where there is none; its connections are closed in the end.

    Raises MirrorError where that fails, and whatever else the body raises as a MirrorError too: each database has
    errors of its own.
    """
    storage = None
    try:
        with quiet():
            storage = _open(address)
            yield storage
    except MirrorError:
        raise
    except Exception as error:  # of SQLAlchemy, a database's package or the file system
        raise MirrorError(f"mirror {shown(address)}: {_words(error, address)}") from error
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def check_storage_of(address: str, study_names: tuple[str, ...], owner: str) -> None:
    """Checks that the storage can be reached, and that no study of these names there is another's; writes nothing.

    `owner`: URI of the store. Raises MirrorError.
    """
    path = _file_of(address)
    if path is not None:
        _check_file(address, path)
        if not path.exists():
            return
    if not address.startswith(JOURNAL) and not _has_studies(address):
        return
    with opened(address) as storage:
        for study in storage.get_all_studies():
            found = study.user_attrs.get(OWNER)
            if study.study_name in study_names and found != owner:
                whose = "no mirror of prunedlora" if found is None else f"the mirror of {found}"
                raise MirrorError(
                    f"mirror {shown(address)}: the study {study.study_name!r} there is {whose}, not of {owner}: give "
                    "this sweep another name, or the mirror another address (--set name=…, --set mirror=…)"
                )


def _open(address: str) -> BaseStorage:
    if address.startswith(JOURNAL):
        return JournalStorage(JournalFileBackend(address.removeprefix(JOURNAL)))
    return RDBStorage(
        _url(address).render_as_string(hide_password=False), engine_kwargs={"connect_args": _connect_args(address)}
    )


def _has_studies(address: str) -> bool:
    """Whether a database has Optuna's tables. Raises MirrorError when it cannot be reached."""
    from sqlalchemy import create_engine, inspect

    try:
        engine = create_engine(_url(address), connect_args=_connect_args(address))
        try:
            return inspect(engine).has_table("studies")
        finally:
            engine.dispose()
    except Exception as error:  # of SQLAlchemy or the database's package
        raise MirrorError(f"mirror {shown(address)} cannot be reached: {_words(error, address)}") from error


def _url(address: str) -> "URL":
    from sqlalchemy import make_url

    url, password = make_url(address), os.environ.get(PASSWORD_VARIABLE)
    return url if url.get_backend_name() == "sqlite" or not password else url.set(password=password)


def _connect_args(address: str) -> dict[str, Any]:
    return {} if address.startswith("sqlite") else {"connect_timeout": CONNECT_SECONDS}


def _file_of(address: str) -> Path | None:
    """Of a journal or an SQLite database; None: a server has it."""
    if address.startswith(JOURNAL):
        return Path(address.removeprefix(JOURNAL))
    url = _url(address)
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def _check_file(address: str, path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise MirrorError(f"mirror {shown(address)}: there is no folder {folder}; make it, or give another address")
    if path.is_dir():
        raise MirrorError(f"mirror {shown(address)}: {path} is a folder; give the address of a file")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise MirrorError(f"mirror {shown(address)}: {path} may not be written (by user {os.geteuid()})")


def _words(error: Exception, address: str) -> str:
    """Type and message of what failed, its first line, with what to install where that is what it takes."""
    missing = next((e for e in (error, error.__cause__, error.__context__) if isinstance(e, ModuleNotFoundError)), None)
    if missing is not None and missing.name is not None:
        return f"it takes the package {missing.name}: pip install {PACKAGES.get(missing.name, missing.name)!r}"
    return f"{type(error).__name__}: {masked(next(iter(str(error).splitlines()), ''), address)}"
