"""Addresses of a mirror, and that none with a password is taken, shown or kept."""

import copy
from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.config.mirror_url import masked, mirror_address, shown
from tests.config.refused import error_of


@pytest.mark.parametrize(
    "address",
    [
        "auto",
        "sqlite:///optuna.db",
        "sqlite:////data/optuna.db",
        "postgresql://me@db.example/studies",
        "postgresql+psycopg2://me@db.example:5432/studies?sslmode=require",
        "mysql+pymysql://me@db/studies",
        "journal:/shared/study.log",
        "postgresql://me@[::1]:5432/studies",
        "postgresql://[::1]/studies",
    ],
)
def test_an_address_is_taken_as_it_is(tree: dict[str, Any], address: str) -> None:
    assert parse_sweep(tree | {"mirror": address}, "test").mirror == address


def test_it_may_be_switched_off_and_is_on_by_itself(tree: dict[str, Any]) -> None:
    assert parse_sweep(tree | {"mirror": None}, "test").mirror is None
    assert parse_sweep(copy.deepcopy(tree), "test").mirror == "auto"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("optuna.db", "mirror: no address of a mirror; it is one of sqlite:///PATH, postgresql://"),
        ("redis://host/0", "no address of a mirror"),
        ("journal:", "names no file; write journal:PATH"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file, and others could not look into it"),
        ("sqlite://relative.db", "takes another slash before its path: write sqlite:///PATH"),
        ("sqlite:///file::memory:?uri=true", "'sqlite:///file::memory:?…' names no file"),
        ("sqlite:/// ", "names no file"),
        ("journal: ", "'journal: ' names no file; write journal:PATH"),
        ("postgresql://me@host:abc/studies", "its port is no number; write postgresql://USER@HOST:PORT/DATABASE"),
        ("postgresql://me@host", "names no database; write postgresql://USER@HOST/DATABASE"),
        ("postgresql://me@host/?x=1", "names no database"),
    ],
)
def test_what_is_no_address_is_refused(tree: dict[str, Any], address: str, message: str) -> None:
    assert message in error_of(tree | {"mirror": address})


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:hunter2@host/studies",
        "postgresql+psycopg://me:hun#ter2@host/studies",
        "postgresql://host/studies?user=me&password=hunter2",
        "mysql://me:hunter2@host",
        "me:hunter2@host/studies",
        "postgres://me:hunter2@host/studies",
        "postgresql://me:hunter2",
        "postgresql://me:hun?ter2@host/studies",
        "mysql://me@host/studies?passwd=hunter2",
        "postgresql://me@host/studies?PASSWORD=hunter2",
        "postgresql://me@host/studies?sslmode=require&sslpassword=hunter2",
        "postgresql://me@host/studies?sslkey=hunter2",
        "sqlite:///x.db?password=hunter2",
        "sqlite://me:hunter2@host/x.db",
        "journal:redis://:hunter2@host/0",
    ],
)
def test_a_password_is_refused_and_not_shown(tree: dict[str, Any], address: str) -> None:
    text = error_of(tree | {"mirror": address})
    assert "ter2" not in text
    assert "mirror: " in text


def test_it_is_said_where_a_password_goes() -> None:
    with pytest.raises(ValueError, match="PRUNEDLORA_MIRROR_PASSWORD"):
        mirror_address("postgresql://me:hunter2@host/studies")


def test_messages_show_no_value_of_a_parameter() -> None:
    assert shown("postgresql://me@host/studies?sslmode=require") == "postgresql://me@host/studies?…"
    assert shown("journal:what?.log") == "journal:what?.log"


def test_what_others_say_of_an_address_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "postgresql://me@host:5432/studies?application_name=hun%20ter2&x=5"
    monkeypatch.setenv("PRUNEDLORA_MIRROR_PASSWORD", "p@ss w/d")
    for said, shows in {
        "no password 'p@ss w/d' of me": "no password '***' of me",
        "cannot parse postgresql+psycopg://me:p%40ss+w%2Fd@host:5432/studies": (
            "cannot parse postgresql+psycopg://me:***@host:5432/studies"
        ),
        "is p%40ss%20w%2Fd what you mean?": "is *** what you mean?",
        "from 'mysql://me:other@one@host/studies'": "from 'mysql://me:***@host/studies'",
        "application 'hun ter2' or hun%20ter2 is not known": "application '***' or *** is not known",
        "host:5432 took 15 s, not 5": "host:5432 took 15 s, not ***",
    }.items():
        assert masked(said, address) == shows
    monkeypatch.delenv("PRUNEDLORA_MIRROR_PASSWORD")
    assert masked("journal:what?x=1 is at x=1", "journal:what?x=1") == "journal:what?x=1 is at x=1"


def test_an_unknown_logger_is_refused(tree: dict[str, Any]) -> None:
    assert "loggers.0: Input should be 'mlflow' or 'tensorboard' (got 'wandb')" in error_of(
        tree | {"loggers": ["wandb"]}
    )


def test_a_logger_is_named_once(tree: dict[str, Any]) -> None:
    assert "loggers names 'mlflow' twice: remove one" in error_of(tree | {"loggers": ["mlflow", "mlflow"]})
