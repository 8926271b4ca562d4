"""A part of a configuration -> all of it; what does not exist is refused."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from vdm.errors import ConfigError
from vdm.runs.config import as_tuples, flatten
from vdm.runs.config_identity import EARLIER_DEFAULTS, replaced
from vdm.runs.defaults import KINDS, default_config
from vdm.runs.former_fields import FORMER_NAMES

EXPECTED = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a string",
    tuple: "a tuple",
}
"""The kinds of fields, in words."""


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the defaults of every field that it lacks.

    Raises:
      ConfigError: a field that does not exist, or a value of another kind.
    """
    if not _is_group(config):
        raise ConfigError(f"config={config!r}: expected a dictionary, such as {{'seed': 1}}")
    given, defaults = as_tuples(_plain(config)), default_config()
    for field, value in unknown_fields(given):
        if present := FORMER_NAMES.get(field):
            raise ConfigError(f"config.{field}={value!r}: this field is now config.{present}")
        raise ConfigError(f"config.{field}={value!r}: no such field; {_offer(field)}")
    known = flatten(defaults)
    for field, value in flatten(given).items():
        _check_kind(field, value, known[field])
    return _merged(defaults, given)


def complete_saved(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an earlier revision; what it lacks has the default it was added with."""
    defaults = default_config()
    for field, value in EARLIER_DEFAULTS.items():
        defaults = replaced(defaults, field.split("."), value)
    return _merged(defaults, as_tuples(config))


def unknown_fields(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every group or field that the defaults lack, or have as the other."""
    return _unknown(config, default_config(), "")


def _unknown(given: Mapping, defaults: Mapping, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if name not in defaults or _is_group(value) != _is_group(defaults[name]):
            yield f"{prefix}{name}", value
        elif _is_group(value):
            yield from _unknown(value, defaults[name], f"{prefix}{name}.")


def _is_group(value: Any) -> bool:
    return hasattr(value, "items")


def _plain(config: Any) -> dict[str, Any]:
    return {n: _plain(value) if _is_group(value) else value for n, value in config.items()}


def _merged(defaults: Mapping, given: Mapping) -> dict[str, Any]:
    found = dict(defaults)
    for name, value in given.items():
        found[name] = _merged(found.get(name, {}), value) if _is_group(value) else value
    return found


def _check_kind(field: str, value: Any, default: Any) -> None:
    kind = KINDS[field] if default is None else type(default)
    if value is None and default is None:
        return
    allowed = (int, float) if kind is float else (kind,)
    if type(value) not in allowed:
        or_none = " or None" if default is None else ""
        raise ConfigError(f"config.{field}={value!r}: expected {EXPECTED[kind]}{or_none}")


def _offer(field: str) -> str:
    """The fields that may have been meant, or the choices where nothing is close."""
    *groups, leaf = field.split(".")
    siblings = default_config()
    for name in groups:
        siblings = siblings[name]
    if leaf in siblings:
        kind = "a group of fields" if _is_group(siblings[leaf]) else "one field, no group of them"
        return f"config.{field} is {kind}"
    prefix = ".".join(["config", *groups])
    close = [f"{prefix}.{name}" for name in difflib.get_close_matches(leaf, siblings)]
    everywhere = flatten(default_config())
    close += [f"config.{name}" for name in everywhere if name.rpartition(".")[2] == leaf]
    if close:
        return f"did you mean {' or '.join(close[:3])}?"
    return f"choose from {', '.join(f'{prefix}.{name}' for name in siblings)}"
