"""Types of a configuration's fields: those of their defaults."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vdm.runs.defaults import ELEMENTS, KINDS, default_config

NAMES = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a string",
    tuple: "a tuple",
}
"""{type of a field: its name in messages}."""


class Mismatch(NamedTuple):
    """A field whose value has another type than its default.

    Attributes:
      field: its dotted name.
      value: its value.
      reason: the type that it should have, as the end of a message.
    """

    field: str
    value: Any
    reason: str


def first_mismatch(config: Mapping[str, Any]) -> Mismatch | None:
    """Return the first field of another type; None where all that the defaults list fit.

    Fields that are missing, and those of a variant that the defaults do not list, are passed over.
    """
    return _in_group(config, default_config(), "")


def is_group(value: Any) -> bool:
    """Return whether a value is a group of fields; a ConfigDict is no Mapping."""
    return hasattr(value, "items")


def is_of(kind: type, value: Any) -> bool:
    """Return whether a value has a field's type, compared exactly: a bool is no number here."""
    return type(value) in ((int, float) if kind is float else (kind,))


def _in_group(given: Mapping, defaults: Mapping, prefix: str) -> Mismatch | None:
    """Return the first mismatch of one group; `prefix` is its dotted name with a dot at the end."""
    for name, default in defaults.items():
        if name not in given:
            continue
        field, value = f"{prefix}{name}", given[name]
        if not is_group(default):
            reason = _reason(field, value, default)
            mismatch = Mismatch(field, value, reason) if reason else None
        elif not is_group(value):
            mismatch = Mismatch(field, value, "expected a group of fields")
        else:
            mismatch = _in_group(value, default, f"{field}.")
        if mismatch:
            return mismatch
    return None


def _reason(field: str, value: Any, default: Any) -> str:
    """Return "" for a value of the default's type, or of that which None stands for."""
    kind = KINDS[field] if default is None else type(default)
    if value is None and default is None:
        return ""
    elements = ELEMENTS.get(field)
    if not is_of(kind, value):
        of_elements = f" of elements that are {NAMES[elements]}" if elements else ""
        return f"expected {NAMES[kind]}{of_elements}{' or None' if default is None else ''}"
    if elements and not all(is_of(elements, element) for element in value):
        return f"each element must be {NAMES[elements]}"
    return ""
