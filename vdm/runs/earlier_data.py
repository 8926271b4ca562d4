"""Data of runs of earlier revisions, which took folders called train/, val/ and test/ for classes.

Such a run trained on a part of its test images, and goes on with the very split it has.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdm import data
from vdm.data import Dataset
from vdm.data.sources import folder
from vdm.errors import DataError
from vdm.runs import dataset
from vdm.runtime.processes import is_first


def open_earlier(
    section: Mapping[str, Any],
    saved: Mapping[str, Any],
    cache_dir: str | os.PathLike | None,
    verify: bool = False,
    prepare: bool = True,
) -> Dataset | None:
    """Return the data that a run on a folder was trained on, where an earlier revision read them.

    A line on stderr says so where they are read in another way now. The routes are tried from the
    cheapest to the dearest; each must give the content hash that config.json has.

    Args:
      section: "data" of its configuration.
      saved: the contents of config.json.
      cache_dir: where prepared arrays live.
      verify: hash all pixels again.
      prepare: read the files again where the cache lacks the data; False writes nothing.

    Returns:
      The data; None where today's reading finds the same data, or none matches the recorded hash.
    """
    if not _is_folder(section) or not _is_folder(saved["config"]["data"]):
        return None
    # Today's reading gives the same data; the cache's index shows it without listing any files.
    if _matching(lambda: dataset.load(section, cache_dir, prepare=False), saved):
        return None
    # The files are as they were: one pool of all splits, from the cache with labels.
    pool = {**section, "folder": {**section["folder"], "splits": "none"}}
    opened_data = _matching(lambda: _find_recorded(section, saved, cache_dir, verify), saved)
    opened_data = opened_data or _matching(
        lambda: dataset.load(pool, cache_dir, verify=verify, prepare=False), saved
    )
    pooled = opened_data is not None and folder.holds_splits(_names(section))
    # The files are gone or have changed: the pool by its hash, without labels.
    if opened_data is None:
        opened_data = _matching(lambda: _open_stored(saved, cache_dir, verify), saved)
        pooled = opened_data is not None
    # The cache is gone: the pool once more from the files, for a run that predates the option.
    if prepare and opened_data is None and "splits" not in saved["config"]["data"]["folder"]:
        opened_data = _matching(lambda: _read_again(pool, cache_dir), saved)
        pooled = opened_data is not None
    if pooled and is_first():
        print(_warning(section, saved), file=sys.stderr, flush=True)
    return opened_data


def _is_folder(section: Mapping[str, Any]) -> bool:
    """Return whether the images come from a folder whose splits are recognised."""
    options = section.get("folder", {})
    return section["name"].partition(":")[0] == "folder" and options.get("splits", "auto") == "auto"


def _matching(opened, saved: Mapping[str, Any]) -> Dataset | None:
    """Return what `opened` gives if it is the data of the run; otherwise None."""
    try:
        candidate = opened()
    except DataError:
        return None
    wanted = saved["data"]
    same = candidate and (candidate.spec.name, candidate.spec.content_hash) == (
        wanted["name"],
        wanted["content_hash"],
    )
    return candidate if same else None


def _find_recorded(section, saved, cache_dir, verify: bool) -> Dataset | None:
    """Return the pool with labels, where its record in the cache holds for the files as they are."""
    return data.find_earlier(
        saved["data"]["content_hash"],
        section["name"],
        dataset.source_options(section),
        cache_dir,
        **{name: section.get(name) for name in dataset.SHARED},
        verify=verify,
    )


def _open_stored(saved, cache_dir, verify: bool) -> Dataset | None:
    """Return a pool of splits by its hash, without labels; its files are gone or have changed."""
    content_hash = saved["data"]["content_hash"]
    folders = data.classes_of_content(content_hash, cache_dir)
    if not folder.holds_splits([f"{name}/image" for name in folders]):
        return None
    return data.open_content(content_hash, cache_dir, verify)


def _read_again(pool: Mapping[str, Any], cache_dir) -> Dataset | None:
    """Read the pool of splits from its files again; None where they hold no splits."""
    return dataset.load(pool, cache_dir) if folder.holds_splits(_names(pool)) else None


def _names(section: Mapping[str, Any]) -> list[str]:
    return folder.image_names(_path(section))


def _path(section: Mapping[str, Any]) -> Path:
    argument = section["name"].partition(":")[2]
    return folder.check_path(argument or section["folder"]["path"])


def _warning(section: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    path = section["name"].partition(":")[2] or section["folder"]["path"]
    size = saved["data"]["split_sizes"]["test"]
    return (
        f"warning: {path}: an earlier revision pooled its splits, so this run trains on some of its "
        f"test images; it keeps that split ({size} test images drawn by hash), while new runs tell the "
        "splits apart"
    )
