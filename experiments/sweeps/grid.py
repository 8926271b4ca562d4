"""Grids over overrides: every combination is a run with a folder and a configuration of its own."""

import copy
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from experiments.cli.parsing import check_field
from experiments.cli.words import Word
from vdm.errors import ConfigError

Axes = Mapping[str, Sequence[str]]
"""{dotted field: its values as text}."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a grid.

    Attributes:
      overrides: {dotted field: value as text}.
      config: the whole configuration, plain.
    """

    overrides: dict[str, str]
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the run's folder, such as "schedule.name=linear-seed=0"; others become "_"."""
        text = "-".join(f"{field}={value}" for field, value in self.overrides.items())
        return re.sub(r"[^\w.=+-]", "_", text)


def read_axes(text: str) -> dict[str, tuple[str, ...]]:
    """Read axes from text: "seed=0,1" gives {"seed": ("0", "1")}; several are separated by ";".

    Raises:
      ConfigError: not of that form, a field given twice, a value given twice.
    """
    axes: dict[str, tuple[str, ...]] = {}
    for axis in filter(None, (part.strip() for part in text.split(";"))):
        field, equals, values = (part.strip() for part in axis.partition("="))
        split = tuple(value.strip() for value in values.split(","))
        if not (field and equals and all(split)):
            raise ConfigError(
                f"--grid={text}: {axis!r} is no axis; write such as "
                "'schedule.name=linear,cosine;seed=0,1,2'"
            )
        if field in axes or len(set(split)) < len(split):
            raise ConfigError(f"--grid={text}: {axis!r} repeats a field or a value; give each once")
        axes[field] = split
    if not axes:
        raise ConfigError(f"--grid={text!r}: empty; write such as 'seed=0,1,2'")
    return axes


def points(config: config_dict.ConfigDict, axes: Axes) -> list[Point]:
    """Return the runs of every combination of values, the last axis varying fastest.

    Args:
      config: the configuration that the values override; it is left as it is.
      axes: {dotted field: values as text}.

    Raises:
      ConfigError: no such field, or a value of another type.
    """
    # All fields first: the message then names the axis, not one of its combinations.
    for field in axes:
        try:
            check_field(config, Word(f"config.{field}", ",".join(axes[field])))
        except ConfigError as error:
            raise ConfigError(f"--grid={field}=...: {error}") from None

    runs = []
    for values in itertools.product(*axes.values()):
        overrides = dict(zip(axes, values, strict=True))
        changed = copy.deepcopy(config)
        for field, value in overrides.items():
            _set(changed, field, value)
        runs.append(Point(overrides, changed.to_dict()))
    return runs


def _set(config: config_dict.ConfigDict, field: str, text: str) -> None:
    """Set a dotted field to a value given as text.

    Raises:
      ConfigError: a value of another type than the field's.
    """
    *groups, leaf = field.split(".")
    for group in groups:
        config = config[group]
    kind = config.get_type(leaf)
    try:
        # A field that is None means "chosen automatically", which may be asked for in words.
        automatic = config[leaf] is None and text.lower() == "none"
        config[leaf] = None if automatic else _read(kind, text)
    except (ValueError, KeyError):
        raise ConfigError(
            f"--grid: {field}={text}: expected {kind.__name__}; one value after another, with commas"
        ) from None


def _read(kind: type, text: str) -> Any:
    """Return text as a value of type `kind`; ValueError or KeyError where it is none."""
    if kind is bool:
        return {"true": True, "false": False}[text.lower()]
    if kind not in (int, float, str):
        raise ValueError(kind)
    return kind(text)
