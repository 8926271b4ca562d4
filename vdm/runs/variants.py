"""Variants of a configuration file, chosen as --config=FILE:VARIANT.

A file holds one dictionary VARIANTS of `Variant` records, and its `get_config(variant)` is a call of
`make_variant`; ml_collections passes what follows the colon. `python -m experiments.train --list` shows
the records.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Variant:
    """One configuration of a file, with its cost and expected bits/dim.

    Attributes:
      make: returns the configuration, a ConfigDict.
      line: one line that describes the model and data.
      cost: steps, images per step and time.
      expected: bits/dim and where the number comes from.
    """

    make: Callable[[], Any]
    line: str
    cost: str
    expected: str


def make_variant(file: str, variants: Mapping[str, Variant], name: str) -> Any:
    """Return the configuration of the variant `name` of a file.

    Args:
      file: the path of the file, for messages.
      variants: the records by name; "" is what the file gives without a colon.
      name: the name chosen.

    Raises:
      ConfigError: the file has no such variant; the message lists those that it has.
    """
    if name not in variants:
        listed = ", ".join(path_of(file, variant) for variant in variants)
        raise ConfigError(f"config={path_of(file, name)}: no such variant; choose one of {listed}")
    return variants[name].make()


def path_of(file: str, name: str) -> str:
    """Return the value of --config that chooses a variant: the file alone where its name is empty."""
    return f"{file}:{name}" if name else file
