"""Locks on files, which one process at a time can hold, and the owner of one that is taken.

The system's own lock frees itself when its process ends, however it does. File systems without
locks (some network ones), and systems without flock, get a soft lock: a second file,
`<name>.soft`, with its owner's host, process and start. If the owner has died on this host, the
lock is taken over. A process on another host cannot be examined, so the owner's text then says
which file to delete.
"""

import errno
import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import filelock

_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_POLL_SECONDS = 0.2


class HeldError(Exception):
    """A lock that another process holds; the text is its owner, "process 12 on HOST"."""


def take(path: Path, wait: Callable[[str], None] | None = None) -> AbstractContextManager:
    """Acquire a lock during this call, and return the context manager whose exit releases it.

    Args:
      path: the lock's file, in a folder that exists; it is created, and stays.
      wait: called once with the owner's name if another process holds the lock, before waiting for
        it; None raises HeldError instead of waiting.

    Raises:
      HeldError: another process holds it, and `wait` is None.
      OSError: the file cannot be written.
    """
    held = _hold(path, wait)
    with suppress(OSError):  # Windows keeps a locked file from being written
        path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    return held


def _hold(path: Path, wait: Callable[[str], None] | None) -> AbstractContextManager:
    """Take the system's lock, or a soft lock where the system or the file system has none."""
    if filelock.FileLock is not filelock.SoftFileLock:
        try:
            # filelock's own fall-back would put its record where the owner's text goes.
            lock = filelock.FileLock(path, fallback_to_soft=False)
            return _acquire(lock, wait, lambda: _owner(path))
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise
    soft = path.with_name(f"{path.name}.soft")
    return _acquire(
        filelock.SoftFileLock(soft),
        wait,
        lambda: f"{_owner(path)} (if that has ended, delete {soft})",
    )


def _acquire(
    lock: filelock.BaseFileLock, wait: Callable[[str], None] | None, owner: Callable[[], str]
) -> AbstractContextManager:
    """Take `lock` at once, or report its owner and wait for it."""
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        if wait is None:
            raise HeldError(owner()) from None
    wait(owner())
    return lock.acquire(timeout=-1, poll_interval=_POLL_SECONDS)


def _owner(path: Path) -> str:
    """Return the owner that the lock's file names."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:
        return "another process"
