"""Identity of the run that a configuration describes: completed with defaults, compared, hashed.

A configuration of an earlier revision lacks the fields added since; it means the default that each had
when it was added. Hashes leave out every field at that default, so adding a field changes no hash.

Hashes are taken in the layout of the first release, whatever fields are called now: `config_hash` names
each field as `vdm.runs.former_fields.former_layout` does. Renaming a field, or taking one that stood
several times together, therefore changes no hash either, and a stored evaluation stays current. Runs
are compared field by field under today's names.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from vdm.runs.config import as_tuples, differences, flatten
from vdm.runs.defaults import default_config
from vdm.runs.former_fields import (
    former_layout,
    upgrade,
    with_former_values,
    without_effect,
    without_former_values,
)
from vdm.runtime.hashes import json_hash

EARLIER_DEFAULTS: dict[str, Any] = {"evaluate.repeats": 1}
"""{dotted field: the default it was added with}, of fields whose default has changed since."""
ADDED_FIELDS = frozenset(
    {"data.folder.splits", "model.family", "train.max_skipped_steps", "train.watchdog_seconds"}
)
"""Fields added since records of evaluations carry a hash over themselves."""


def historical_defaults() -> dict[str, Any]:
    """Return {dotted field: the default it was added with}, under today's names."""
    return flatten(as_tuples(default_config())) | EARLIER_DEFAULTS


def effective_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return {dotted field: value} of a configuration of any revision, under today's names.

    Fields that it lacks have the default they were added with; so have those that its schedule or
    source of data does not take, because their values have no effect.
    """
    defaults = historical_defaults()
    fields = defaults | flatten(as_tuples(without_former_values(upgrade(config))))
    return fields | {name: defaults[name] for name in without_effect(config)}


def keep_earlier_defaults(
    saved: Mapping[str, Any], now: Mapping[str, Any], allowed: Container[str] = ()
) -> dict[str, Any]:
    """Return the configuration with which a run of an earlier revision resumes: `now`, adjusted.

    A field of EARLIER_DEFAULTS with its old default in `saved` and its new one in `now` was never set
    by the user, and keeps the old default.

    Args:
      saved: the configuration in config.json.
      now: the configuration that the run is resumed with.
      allowed: fields that take their value in `now` in any case.
    """
    before, after = effective_fields(saved), effective_fields(now)
    defaults = flatten(as_tuples(default_config()))
    # Values without effect are part of the hash that the run's evaluations carry.
    resumed = with_former_values(now, upgrade(as_tuples(saved)))
    for name, old in EARLIER_DEFAULTS.items():
        chosen = before[name] != old or after[name] != defaults[name]
        if not chosen and name not in allowed:
            resumed = replaced(resumed, name.split("."), old)
    return resumed


def replaced(config: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return `config` with `value` at the field whose groups and name are `path`."""
    name, *rest = path
    return {**config, name: replaced(config[name], rest, value) if rest else value}


def config_changes(saved: Mapping, now: Mapping) -> dict[str, tuple[Any, Any]]:
    """Return {dotted field: (saved, now)} of the effective fields in which two configurations differ.

    A field that the chosen schedule or source does not take has no effect and is left out, see
    `effective_fields`.
    """
    return differences(effective_fields(saved), effective_fields(now))


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the fields that differ from their historical default.

    Section "evaluate" and data.cache_dir are left out: neither changes the trained parameters.
    """
    defaults = historical_defaults()
    former_defaults = former_layout(default_config(), defaults) | EARLIER_DEFAULTS
    fields = _trained_fields(former_layout(config, defaults))
    differing = {
        name: value
        for name, value in fields.items()
        if name not in former_defaults or as_tuples(former_defaults[name]) != as_tuples(value)
    }
    return json_hash(differing)


def earlier_config_hash(config: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 as revisions before ADDED_FIELDS computed it, of every field that they had.

    None where an added field differs from its default: such a run did not exist then.
    """
    defaults = historical_defaults()
    fields = _trained_fields(former_layout(config, defaults))
    if any(fields.get(name, defaults[name]) != defaults[name] for name in ADDED_FIELDS):
        return None
    return json_hash({n: v for n, v in fields.items() if n not in ADDED_FIELDS})


def _trained_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields except "evaluate.*" and data.cache_dir, which do not affect training."""
    return {
        n: v for n, v in fields.items() if not n.startswith("evaluate.") and n != "data.cache_dir"
    }
