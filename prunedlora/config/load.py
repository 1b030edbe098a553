"""YAML file + overrides → a checked configuration, or one error that lists everything that is wrong with it."""

import difflib
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from prunedlora.config.evaluation_section import HarnessConfig
from prunedlora.config.fields import ListPathError, all_fields, is_field, place, with_values
from prunedlora.config.sweep import SweepConfig


class ConfigError(ValueError):
    """What is wrong with a sweep file, one line per problem, each with the path of its field."""


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 1e-3 is a number (YAML 1.1 reads text), 2024-01-31 a text (no setting is a date), and a
    key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[Any, yaml.Mark] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, mark = self.construct_object(key_node, deep=True), key_node.start_mark
            if isinstance(key, Hashable) and (before := first.setdefault(key, mark)) is not mark:
                raise ConfigError(
                    f"line {mark.line + 1}, column {mark.column + 1}: key {key!r} is given twice, first in line "
                    f"{before.line + 1}, column {before.column + 1}"
                )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def load_sweep(path: Path, overrides: Sequence[str] = (), *, base_only: bool = False) -> SweepConfig:
    """The sweep of a YAML file with `field.path=value` overrides applied (values are YAML).

    With `base_only` the file's space and baselines are put aside, and the one trial of the sweep is its `trial`.

    Raises:
        ConfigError: the file cannot be read or parsed, or any of its settings is wrong; all problems at once.
    """
    try:
        tree = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not {type(tree).__name__}")
    tree = with_overrides(tree, overrides)
    if base_only:
        tree |= {"num_trials": 0, "space": {}, "baselines": [{}]}
    return parse_sweep(tree, str(path))


def with_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A parsed file's settings with `field.path=value` overrides applied (values are YAML). Raises ConfigError."""
    try:
        return with_values(tree, dict(_parse_override(override) for override in overrides))
    except ListPathError as error:
        raise ConfigError(f"--set {error}") from error


def parse_sweep(tree: dict[str, Any], source: str) -> SweepConfig:
    """The checked sweep of an already parsed file. Raises ConfigError; `source` names it in the message."""
    try:
        return SweepConfig.model_validate(tree)
    except ValidationError as error:
        lines = [line for details in error.errors() for line in _explain(details)]
        count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
        raise ConfigError(f"{source}: {count}\n" + "\n".join(f"  {line}" for line in lines)) from error


def parse_harness(given: Mapping[str, Any]) -> HarnessConfig:
    """How the harness measures, from options of the command line; those that are None are as if not given.

    Raises ConfigError, all problems at once.
    """
    try:
        return HarnessConfig.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("\n".join(line for details in error.errors() for line in _explain(details))) from error


def _parse(text: str) -> Any:
    """YAML as plain data. Raises yaml.YAMLError, ConfigError."""
    try:
        tree = yaml.load(text, _Loader)
        json.dumps(tree, default=str, skipkeys=True)  # refuses an alias within itself
    except RecursionError as error:
        raise ConfigError("nested too deeply") from error
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"a value that cannot be read: {error}") from error
    return tree


def _parse_override(override: str) -> tuple[str, Any]:
    path, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override!r}: write field.path=value")
    if (part := path.split(".")[0]) in ("space", "baselines"):  # their entries are keyed by dotted paths themselves
        raise ConfigError(f"--set {path}: {part} is changed in the sweep file, not by --set")
    if not is_field(SweepConfig, path):
        close = difflib.get_close_matches(path, all_fields(SweepConfig), n=1)
        raise ConfigError(f"--set {path}: no such field" + (f"; did you mean {close[0]}?" if close else ""))
    try:
        return path, _parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is no valid YAML") from error
    except ConfigError as error:
        raise ConfigError(f"--set {override!r}, {error}") from error


def _explain(details: ErrorDetails) -> list[str]:
    location = place(details["loc"])
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        others = [path for path in all_fields(SweepConfig) if path != location]  # a field of another kind of schedule
        siblings = [path for path in others if path.count(".") == location.count(".")]
        close = difflib.get_close_matches(location, siblings, n=1)
        return [f"{location}: unknown field" + (f"; did you mean {close[0].rpartition('.')[2]!r}?" if close else "")]
    if details["type"] == "missing":
        return [f"{location}: missing"]
    if details["type"] == "value_error":
        return [f"{location}: {part}" if location else part for part in message.split("\n")]
    return [f"{location}: {message} (got {details['input']!r})"]
