"""Data sources -> one memory-mapped integer array per split + a DataSpec -> batches by number."""

import inspect
import os
from collections.abc import Mapping
from typing import Any

from vdm.data import arrays, digits
from vdm.data.base import Dataset, prepare
from vdm.errors import ConfigError, choose

SOURCES = {
    "arrays": arrays.source,
    "digits": digits.source,
}
"""Each entry: a function as `vdm.data.base.Source` describes it."""


def load(
    name: str, options: Mapping[str, Any] | None = None, cache_dir: str | os.PathLike | None = None
) -> Dataset:
    """The data set `name`, prepared in the cache and opened from there.

    Args:
      name: a key of SOURCES.
      options: the source's own options.
      cache_dir: where prepared arrays live; None = $VDM_DATA_DIR, or ~/.cache/vdm/data.

    Raises:
      ConfigError: an unknown name, or an unknown, missing or unsuitable option.
      DataError: a missing, malformed or unsuitable file.
      DiskError: the cache cannot be written.
    """
    source = choose("data.name", name, SOURCES, "data source")
    options = dict(options or {})
    _check_options(name, source, options)
    by_split, num_levels, notes = source(**options)
    return prepare(name, by_split, num_levels, cache_dir, notes)


def _check_options(name: str, source, options: Mapping[str, Any]) -> None:
    known = inspect.signature(source).parameters
    listed = f"choose from {', '.join(known)}" if known else "it has none"
    for option, value in options.items():
        if option not in known:
            raise ConfigError(
                f"data option {option}={value!r}: source {name!r} has no such option; {listed}"
            )
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise ConfigError(f"data option {option}: source {name!r} needs it; {listed}")
