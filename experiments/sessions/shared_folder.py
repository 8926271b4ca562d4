"""Check that all processes of a run see one work folder, and not each its own under one name."""

import secrets
import time
from pathlib import Path

from vdm.runtime import processes

VISIBLE_WITHIN_SECONDS = 10.0
"""Longest wait for a new file to appear on another machine; network file systems cache listings."""
_POLL_SECONDS = 0.1


def check_shared(folder: Path) -> None:
    """Raise in every process unless all see a file that the first one makes in `folder`.

    Two empty folders look alike, such as those of a disk that is mounted on one machine only.

    Raises:
      ConfigError: a process does not see the file.
    """
    if processes.count() == 1:
        return
    # A name that nobody has asked for yet: a file system may remember that a name is not there.
    marker = folder / f".shared-{secrets.token_hex(8)}"
    processes.first_only(marker.touch)
    try:
        marker = folder / processes.gather_text(marker.name)[0]
        processes.check_same(
            f"--workdir={folder}",
            "the shared folder" if _appears(marker) else f"another one, {folder.resolve()}",
            "is the folder mounted on all, and the path the same from where each was started?",
        )
    finally:
        if processes.is_first():
            marker.unlink(missing_ok=True)


def _appears(path: Path) -> bool:
    """Return whether a file is there, or will be in a moment."""
    deadline = time.monotonic() + VISIBLE_WITHIN_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
