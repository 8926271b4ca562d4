"""Which run a configuration describes: completed with defaults, compared field by field, hashed.

A configuration of an earlier revision lacks the fields added since; it means the default that each had
when it was added. Hashes leave out every field at that default, so adding a field changes no hash.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from vdm.runs.config import as_tuples, differences, flatten
from vdm.runs.defaults import default_config
from vdm.runtime.hashes import json_hash

EARLIER_DEFAULTS: dict[str, Any] = {"evaluate.repeats": 1}
"""{dotted field: the default it was added with}, of fields whose default has changed since."""
ADDED_FIELDS = frozenset({"data.folder.splits", "model.family"})
"""Fields added since records of evaluations carry a hash over themselves."""


def historical_defaults() -> dict[str, Any]:
    """{dotted field: the default it was added with}."""
    return flatten(as_tuples(default_config())) | EARLIER_DEFAULTS


def keep_earlier_defaults(
    saved: Mapping[str, Any], now: Mapping[str, Any], allowed: Container[str] = ()
) -> dict[str, Any]:
    """`now` as a run saved before a default changed goes on with it: at the default of its time.

    A field of EARLIER_DEFAULTS that holds its old default in `saved` and its new one in `now` was
    chosen by nobody; `allowed` names those that are to change all the same.
    """
    before, after = flatten(as_tuples(saved)), flatten(as_tuples(now))
    defaults, kept = flatten(as_tuples(default_config())), dict(now)
    for name, old in EARLIER_DEFAULTS.items():
        chosen = before.get(name, old) != old or after.get(name) != defaults[name]
        if not chosen and name not in allowed:
            kept = replaced(kept, name.split("."), old)
    return kept


def replaced(config: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """`config` with `value` at the field whose groups and name are `path`."""
    name, *rest = path
    return {**config, name: replaced(config[name], rest, value) if rest else value}


def config_changes(saved: Mapping, now: Mapping) -> dict[str, tuple[Any, Any]]:
    """`differences` of two configurations, each completed with the historical defaults."""
    defaults = historical_defaults()
    before, after = (flatten(as_tuples(config)) for config in (saved, now))
    return differences(defaults | before, defaults | after)


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of the fields that differ from their historical default.

    Section "evaluate" and the place of prepared data do not count: neither changes what was trained.
    """
    defaults = historical_defaults()
    fields = _trained_fields(config)
    return json_hash(
        {n: v for n, v in fields.items() if n not in defaults or defaults[n] != as_tuples(v)}
    )


def earlier_config_hash(config: Mapping[str, Any]) -> str | None:
    """SHA-256 as revisions before ADDED_FIELDS computed it, of every field that they had.

    None where an added field differs from its default: such a run did not exist then.
    """
    fields, defaults = _trained_fields(config), historical_defaults()
    if any(fields.get(name, defaults[name]) != defaults[name] for name in ADDED_FIELDS):
        return None
    return json_hash({n: v for n, v in fields.items() if n not in ADDED_FIELDS})


def _trained_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    fields = flatten(config)
    return {
        n: v for n, v in fields.items() if not n.startswith("evaluate.") and n != "data.cache_dir"
    }
