"""Nested mappings such as configurations: fields by dotted names, and the differences of two."""

from collections.abc import Mapping
from typing import Any


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return {dotted name: value} of every field of a nested mapping, sorted within each group."""
    fields: dict[str, Any] = {}
    for name, value in sorted(config.items()):
        is_group = isinstance(value, Mapping) or hasattr(value, "items")
        fields |= flatten(value, f"{prefix}{name}.") if is_group else {prefix + name: value}
    return fields


def differences(saved: Mapping, now: Mapping) -> dict[str, tuple[Any, Any]]:
    """Return {dotted field: (saved, now)} where two mappings differ; None = no such field."""
    before, after = flatten(saved), flatten(now)
    names = sorted(before.keys() | after.keys())
    pairs = {name: (before.get(name), after.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def as_tuples(value: Any) -> Any:
    """Return a nested value with every list replaced by a tuple; JSON stores tuples as lists."""
    if isinstance(value, Mapping):
        return {name: as_tuples(item) for name, item in value.items()}
    return tuple(as_tuples(item) for item in value) if isinstance(value, list | tuple) else value
