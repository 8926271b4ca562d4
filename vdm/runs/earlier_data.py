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
) -> Dataset | None:
    """The data that a run on a folder was trained on, where an earlier revision read them.

    A line on stderr says so where they are read in another way now.

    Args:
      section: "data" of its configuration.
      saved: config.json.
      cache_dir: where prepared arrays live.
      verify: hash all pixels again.

    Returns:
      None where they are read as ever, or have changed since.
    """
    if not _is_folder(section) or not _is_folder(saved["config"]["data"]):
        return None
    # As ever: found without listing any files.
    if _matching(lambda: dataset.load(section, cache_dir, prepare=False), saved):
        return None
    pool = {**section, "folder": {**section["folder"], "splits": "none"}}
    found = _matching(lambda: _find_recorded(section, saved, cache_dir, verify), saved)
    found = found or _matching(
        lambda: dataset.load(pool, cache_dir, verify=verify, prepare=False), saved
    )
    pooled = found is not None and folder.holds_splits(_names(section))
    if found is None:
        found = _matching(lambda: _open_stored(saved, cache_dir, verify), saved)
        pooled = found is not None
    if found is None and "splits" not in saved["config"]["data"]["folder"]:
        found = _matching(lambda: _read_again(pool, cache_dir), saved)
        pooled = found is not None
    if pooled and is_first():
        print(_warning(section, saved), file=sys.stderr, flush=True)
    return found


def _is_folder(section: Mapping[str, Any]) -> bool:
    """Whether the images come from a folder whose splits are recognised."""
    options = section.get("folder", {})
    return section["name"].partition(":")[0] == "folder" and options.get("splits", "auto") == "auto"


def _matching(opened, saved: Mapping[str, Any]) -> Dataset | None:
    """What `opened` gives, if it is the data of the run."""
    try:
        found = opened()
    except DataError:
        return None
    wanted = saved["data"]
    same = found and (found.spec.name, found.spec.content_hash) == (
        wanted["name"],
        wanted["content_hash"],
    )
    return found if same else None


def _find_recorded(section, saved, cache_dir, verify: bool) -> Dataset | None:
    """With labels; its record holds for the files as they are now."""
    return data.find_earlier(
        saved["data"]["content_hash"],
        section["name"],
        dataset.source_options(section),
        cache_dir,
        **{name: section.get(name) for name in dataset.SHARED},
        verify=verify,
    )


def _open_stored(saved, cache_dir, verify: bool) -> Dataset | None:
    """A pool of splits by its hash, without labels; the files are gone, or have changed."""
    content_hash = saved["data"]["content_hash"]
    folders = data.classes_of_content(content_hash, cache_dir)
    if not folder.holds_splits([f"{name}/image" for name in folders]):
        return None
    return data.open_content(content_hash, cache_dir, verify)


def _read_again(pool: Mapping[str, Any], cache_dir) -> Dataset | None:
    """The pool of splits, where it is no longer in the cache."""
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
