"""Fields under their former names: configurations of earlier revisions, in today's layout and back.

`upgrade` reads a saved configuration. `former_layout` is its inverse, in which every revision hashes
configurations, so that a record of an evaluation stays current whatever fields are renamed.

A field of ONCE_PER_CHOICE, such as schedule.learned_endpoints, stood under every choice of its section
that took it, as schedule.rational_spline.learned_endpoints. Only the value under the chosen
schedule or source had an effect, and `upgrade` moves that one. The values under other choices stay
where they were, because the hash includes them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vdm.runs.config import flatten

RENAMED = {
    "objective.shape": "objective.interior_loss",
    "optimizer.shape_learning_rate": "optimizer.interior_learning_rate",
}
"""{former name: name}."""
_PER_PIXEL = ("pixel_polynomial", "pixel_network", "conditional_polynomial", "conditional_network")
_LEARNED = ("monotone_network", "piecewise_linear", "rational_spline", *_PER_PIXEL)
RESIZED_SOURCES = ("folder", "tfds", "celeb_a")
"""Sources of images that are cropped and resized."""
ONCE_PER_CHOICE = {
    "schedule.learned_endpoints": _LEARNED,
    "schedule.sharing": _PER_PIXEL,
    "schedule.rank": _PER_PIXEL,
    "data.resize.crop": RESIZED_SOURCES,
    "data.resize.size": RESIZED_SOURCES,
    "data.resize.filter": RESIZED_SOURCES,
}
"""{name: the choices of its section under which it stood once}."""


def _under(name: str, choice: str) -> str:
    """Return the former name under a choice: schedule.rank -> schedule.pixel_network.rank."""
    section, *_, leaf = name.split(".")
    return f"{section}.{choice}.{leaf}"


FORMER_NAMES = RENAMED | {
    _under(name, choice): name for name, choices in ONCE_PER_CHOICE.items() for choice in choices
}
"""{every former name: name}."""


def upgrade(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a configuration of any revision in which fields have their present names.

    Of a field of ONCE_PER_CHOICE, only the value under the chosen schedule or source is moved to the
    present name. A configuration of this revision comes back equal.

    Args:
      config: nested groups, such as {"schedule": {"name": "linear", ...}, ...}; left unchanged.
    """
    moves = dict(RENAMED)
    for name, choices in ONCE_PER_CHOICE.items():
        choice = _chosen(config, name)
        if choice in choices:
            moves[_under(name, choice)] = name
    fields = flatten(config)
    moved = _copy(config)
    for former, name in moves.items():
        if former in fields:
            _remove(moved, former)
            _put(moved, name, fields[former])
    return moved


def former_layout(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return {former dotted name: value} of a configuration of any revision.

    Args:
      config: nested, in whichever layout.
      defaults: {dotted field: default}; choices other than the chosen one are at theirs, unless
        `config` holds a value that they had in an earlier revision.
    """
    fields = flatten(config)
    for former, name in RENAMED.items():
        if name in fields:
            fields[former] = fields.pop(name)
    for name, choices in ONCE_PER_CHOICE.items():
        if name not in fields:
            continue
        value, chosen = fields.pop(name), _chosen(config, name)
        section = config[name.partition(".")[0]]
        for choice in choices:
            # A group that is not there belongs to a choice that did not exist yet.
            if choice == chosen or choice in section:
                fallback = value if choice == chosen else defaults[name]
                fields.setdefault(_under(name, choice), fallback)
    return fields


def without_former_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested `config` without values under former names, as `vdm.runs.build` takes it.

    After `upgrade` only those without an effect are left under such names.
    """
    remaining = _copy(config)
    for former in flatten(config).keys() & FORMER_NAMES.keys():
        _remove(remaining, former)
    return remaining


def without_effect(config: Mapping[str, Any]) -> list[str]:
    """Return the names of ONCE_PER_CHOICE that the chosen schedule or source does not take."""
    return [
        name for name, choices in ONCE_PER_CHOICE.items() if _chosen(config, name) not in choices
    ]


def with_former_values(config: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with the values of `saved` that have no effect but belong to its hash.

    The inverse of `without_former_values`, where `saved` is what `upgrade` gave for it.
    """
    completed = _copy(config)
    for former, value in flatten(saved).items():
        if former in FORMER_NAMES and former not in RENAMED:
            _put(completed, former, value)
    return completed


def _chosen(config: Mapping[str, Any], name: str) -> str:
    """Return the choice of the section that a field lies in; "" where a damaged file names none."""
    section: Any = config.get(name.partition(".")[0])
    choice = section.get("name", "") if hasattr(section, "get") else ""
    return str(choice).partition(":")[0]


def _copy(value: Any) -> Any:
    """Return nested groups copied as dictionaries; values are shared."""
    if not hasattr(value, "items"):
        return value
    return {name: _copy(item) for name, item in value.items()}


def _group(config: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """Return the nested dictionary of `config` at `path`; missing ones are added to `config`."""
    for name in path:
        config = config.setdefault(name, {})
    return config


def _put(config: dict[str, Any], field: str, value: Any) -> None:
    *path, leaf = field.split(".")
    _group(config, path)[leaf] = value


def _remove(config: dict[str, Any], field: str) -> None:
    *path, leaf = field.split(".")
    del _group(config, path)[leaf]
