"""Name → object, so that a name in a YAML file finds the function of that name in the file of that name.

Whoever offers a choice registers it where it is defined; a new criterion, schedule or task is one decorated object and
no list has to be edited (a new sampler is named in `config.sweep.SamplerName` too). The modules that register are
imported only when a name of their kind is asked for, so that reading a configuration does not import torch before it
must.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# kind → the module that registers it, or the package of which every module may.
HOMES = {
    "allocation": "prunedlora.pruning.allocation",
    "criterion": "prunedlora.pruning.criteria",
    "curvature": "prunedlora.pruning.curvature",
    "method": "prunedlora.methods",
    "sampler": "prunedlora.study.samplers",
    "statistic": "prunedlora.pruning.statistics",
    "schedule": "prunedlora.pruning.schedules",
    "task": "prunedlora.tasks",
}

_registered: dict[str, dict[str, Any]] = {kind: {} for kind in HOMES}


class UnknownNameError(ValueError):
    """A name that nothing is registered under; the message lists the known ones."""


def register(kind: str, name: str) -> Callable[[T], T]:
    """Decorator: makes the object known as `name` among its `kind`. Raises ValueError when the name is taken."""

    def keep(entry: T) -> T:
        known = _registered[kind]
        if name in known:
            raise ValueError(f"{kind} {name!r} is registered twice: {known[name]!r} and {entry!r}")
        known[name] = entry
        return entry

    return keep


def names(kind: str) -> list[str]:
    """All names registered under `kind`, sorted. Imports the modules that register them."""
    home = importlib.import_module(HOMES[kind])
    for module in pkgutil.iter_modules(getattr(home, "__path__", ())):
        importlib.import_module(f"{home.__name__}.{module.name}")
    return sorted(_registered[kind])


def lookup(kind: str, name: str) -> Any:
    """The object registered as `name`. Raises UnknownNameError, which lists the known names."""
    known = names(kind)
    if name not in known:
        raise UnknownNameError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
    return _registered[kind][name]
