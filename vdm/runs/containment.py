"""Work folders that may come from someone else: what is written into one stays within it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vdm.errors import CheckpointError

WRITTEN = (
    ".lock",
    "breakdown",
    "checkpoints",
    "config.json",
    "evaluations",
    "goodput.json",
    "metrics.damaged.jsonl",
    "metrics.jsonl",
    "noise_maps",
    "samples",
    "skipped_steps.jsonl",
    "stacks",
    "tensorboard",
)
"""Files and folders of a work folder that are written; whatever else lies there is left alone."""

_MOST_RATIO, _FREE_BYTES = 16, 2**26
"""Bytes in memory per byte on disk, and bytes that no file needs to account for."""


def check_links(workdir: Path) -> None:
    """Refuse a work folder in which a link leads out from where something is written.

    Through it an evaluation, a sample or a checkpoint would be written, or an old step deleted,
    elsewhere. The work folder itself may be reached through a link.

    Raises:
      CheckpointError: the first such link, with where it leads.
    """
    root = os.path.realpath(workdir)
    for link in _links(root):
        target = os.path.realpath(link)
        if os.path.commonpath([root, target]) != root:
            raise CheckpointError(
                f"{link}: is a link to {target}, outside the work folder, where nothing may be "
                "written; put the files themselves in its place, or the whole work folder there"
            )


def check_name(name: str) -> None:
    """Refuse a file name, made of what config.json holds, that is a path.

    Raises:
      CheckpointError: a name with a separator.
    """
    if Path(name).name != name or "\\" in name:
        raise CheckpointError(f"config.json gives {name!r} as the name of a record; it is damaged")


def _links(root: str) -> Iterator[str]:
    """Yield the symbolic links among WRITTEN and below, none of them followed."""
    # By directory entries, which tell links from files without a system call for each: checkpoints
    # and evaluations may be thousands of files on a network file system.
    folders = []
    for path in (os.path.join(root, name) for name in WRITTEN):
        if os.path.islink(path):
            yield path
        else:
            folders.append(path)
    while folders:
        # A file, or a folder that is missing or unreadable, is named by whatever opens it.
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield entry.path
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def check_declared_bytes(folder: Path, num_bytes: int) -> None:
    """Refuse checkpoints that would fill the memory with arrays of which hardly anything is stored.

    Args:
      folder: the folder of the checkpoints.
      num_bytes: size of the arrays, from the shapes that configuration and record declare.

    Raises:
      CheckpointError: many times what the files of all steps take; trained numbers do not compress.
    """
    stored = sum(
        os.lstat(os.path.join(below, name)).st_size
        for below, _, names in os.walk(folder)
        for name in names
    )
    if num_bytes > _FREE_BYTES + _MOST_RATIO * stored:
        raise CheckpointError(
            f"{folder}: parameters of {num_bytes} bytes are declared, and all files together have "
            f"{stored}; it is damaged, or made to fill the memory"
        )
