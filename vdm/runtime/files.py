"""Files that are written whole or not at all."""

import errno
import os
import secrets
from pathlib import Path

FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
"""Error numbers of a full disk, or of a user's share of one."""


def write_whole(path: Path, content: bytes) -> None:
    """Replace `path` by `content` as a whole, or leave it as it was, even at a power cut.

    Raises:
      OSError: it cannot be written; nothing is left behind.
    """
    # A name of its own: another process may be writing the same file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            # The content must be on the disk before the rename is: after a power cut a file system
            # may otherwise keep the new name of an empty file.
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, so that they survive a power cut."""
    if os.name == "nt":
        return  # folders cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do it for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
