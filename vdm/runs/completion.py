"""Completion of a partial configuration with defaults; fields that do not exist are refused."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from vdm.errors import ConfigError
from vdm.runs.config import as_tuples, flatten
from vdm.runs.config_identity import EARLIER_DEFAULTS, replaced
from vdm.runs.defaults import default_config
from vdm.runs.former_fields import FORMER_NAMES
from vdm.runs.kinds import first_mismatch, is_group


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with the defaults of every field that it lacks.

    Raises:
      ConfigError: a field that does not exist or has another name now, or a value of another type.
    """
    if not is_group(config):
        raise ConfigError(f"config={config!r}: expected a dictionary, such as {{'seed': 1}}")
    given, defaults = as_tuples(_plain(config)), default_config()
    for field, value in unknown_fields(given):
        if present := FORMER_NAMES.get(field):
            raise ConfigError(f"config.{field}={value!r}: this field is now config.{present}")
        raise ConfigError(f"config.{field}={value!r}: no such field; {_offer(field)}")
    check_kinds(given)
    return _merged(defaults, given)


def check_kinds(config: Mapping[str, Any]) -> None:
    """Check the type of every field that the defaults list; a variant checks further ones of its own.

    Raises:
      ConfigError: a value of another type, or a tuple with such an element.
    """
    if mismatch := first_mismatch(config):
        field, value, reason = mismatch
        raise ConfigError(f"config.{field}={value!r}: {reason}")


def complete_saved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole configuration of a run that an earlier revision saved.

    Fields that it lacks have the default they were added with, not today's.
    """
    defaults = default_config()
    for field, value in EARLIER_DEFAULTS.items():
        defaults = replaced(defaults, field.split("."), value)
    return _merged(defaults, as_tuples(config))


def unknown_fields(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every entry that the defaults lack.

    A group where the defaults have a field, and a field where they have a group, count as lacking. The
    options of the chosen variant do not: a new schedule or family needs no line in the defaults.
    """
    return _unknown(config, default_config(), "")


def _unknown(given: Mapping, defaults: Mapping, prefix: str) -> Iterator[tuple[str, Any]]:
    chosen = {str(given.get(key)).partition(":")[0] for key in ("name", "family")}
    for name, value in given.items():
        if name not in defaults and name in chosen and is_group(value):
            continue
        if name not in defaults or is_group(value) != is_group(defaults[name]):
            yield f"{prefix}{name}", value
        elif is_group(value):
            yield from _unknown(value, defaults[name], f"{prefix}{name}.")


def _plain(config: Any) -> dict[str, Any]:
    """Return a ConfigDict or mapping with all its groups as dictionaries."""
    return {n: _plain(value) if is_group(value) else value for n, value in config.items()}


def _merged(defaults: Mapping, given: Mapping) -> dict[str, Any]:
    """Return `defaults` with the fields of `given` in their place, group by group."""
    merged = dict(defaults)
    for name, value in given.items():
        merged[name] = _merged(merged.get(name, {}), value) if is_group(value) else value
    return merged


def _offer(field: str) -> str:
    """Return the fields that may have been meant, or the choices where nothing is close."""
    *groups, leaf = field.split(".")
    siblings = default_config()
    for name in groups:
        siblings = siblings[name]
    if leaf in siblings:
        kind = "a group of fields" if is_group(siblings[leaf]) else "one field, no group of them"
        return f"config.{field} is {kind}"
    prefix = ".".join(["config", *groups])
    # Misspelt in its own group, or right but looked for in another one.
    close = [f"{prefix}.{name}" for name in difflib.get_close_matches(leaf, siblings)]
    everywhere = flatten(default_config())
    close += [f"config.{name}" for name in everywhere if name.rpartition(".")[2] == leaf]
    if close:
        return f"did you mean {' or '.join(close[:3])}?"
    return f"choose from {', '.join(f'{prefix}.{name}' for name in siblings)}"
