"""Work folders that may come from someone else: what is written into one stays within it."""

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
    "metrics.jsonl",
    "noise_maps",
    "samples",
    "tensorboard",
)
"""Files and folders of a work folder that are written; whatever else lies there is left alone."""


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
    for entry in (os.path.join(root, name) for name in WRITTEN):
        if os.path.islink(entry):
            yield entry
            continue
        for folder, names, files in os.walk(entry):
            paths = (os.path.join(folder, name) for name in (*names, *files))
            yield from filter(os.path.islink, paths)
