"""Orbax's calls among several processes, and the room that a save needs.

Orbax's processes meet at barriers. Left alone, a process whose write fails never arrives at the next
one, and all others wait there for ever. Here each barrier also exchanges exit codes, so that the
others leave Orbax's call as soon as one has failed.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax

from vdm.errors import DiskError
from vdm.runtime.files import FULL_ERRNOS
from vdm.runtime.processes import ElsewhereError, exchange
from vdm.training.checkpoint_record import error_line

Tree = Any
Result = TypeVar("Result")

_MIB = 2**20
_FULL = "No space left on device"
_SETTLE_SECONDS = 5.0
_POOLS = ("ThreadPoolExecutor", "asyncio_")


def check_room(directory: Path, trees: Tree) -> None:
    """Raise DiskError unless the disk of a folder has room for all arrays of a step.

    Most full disks are noticed here, before Orbax has written half a step and filled what is left.

    Args:
      directory: the folder of the checkpoints.
      trees: what is to be saved. Compression, which gains little on trained parameters, is not
        counted, and neither are the few KiB of index files.
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(trees))
    free = _free_bytes(directory)
    if free < needed:
        raise DiskError(f"{needed / _MIB:.1f} MiB are needed and {free / _MIB:.1f} MiB are free")


def _free_bytes(directory: Path) -> int:
    """Return the bytes that this user may still write there."""
    # The share of a disk that is reserved for root counts for root alone.
    if hasattr(os, "statvfs") and os.geteuid() == 0:
        status = os.statvfs(directory)
        return status.f_bfree * status.f_frsize
    return shutil.disk_usage(directory).free


def jointly(call: Callable[[], Result]) -> Result:
    """Return `call()`, a call of Orbax that all processes make; all fail if it fails in one.

    Raises:
      ElsewhereError: it failed in another process only.
    """
    if jax.process_count() == 1:
        return call()
    elsewhere: list[ElsewhereError] = []
    try:
        with _barriers_exchange(elsewhere):
            result = call()
    except Exception as error:
        # Whoever was told of another's failure at a barrier has taken part in that one's exchange.
        if elsewhere:
            raise elsewhere[0] from None
        exchange(getattr(error, "exit_code", 1))
        raise
    exchange(0)
    return result


@contextmanager
def _barriers_exchange(elsewhere: list[ElsewhereError]) -> Iterator[None]:
    """Make Orbax's barriers exchange exit codes; the failure of another process goes to `elsewhere`."""
    from orbax.checkpoint._src.multihost import multihost

    original = multihost.sync_global_processes

    def barrier(name: str, **options: Any) -> None:
        # Barriers of some processes only are not ours: none is used here.
        if options.get("processes") is not None:
            return original(name, **options)
        try:
            exchange(0)
        except ElsewhereError as error:
            elsewhere.append(error)
            raise

    multihost.sync_global_processes = barrier
    try:
        yield
    finally:
        multihost.sync_global_processes = original


def save_failure(error: BaseException) -> str:
    """Return why a save failed, in one line: TensorStore's text hides a full disk behind its paths."""
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in FULL_ERRNOS or _FULL in str(cause):
            return _FULL
        cause = cause.__cause__ or cause.__context__
    return error_line(error)


@contextmanager
def threads_ended() -> Iterator[None]:
    """After a failure within the context, wait for the threads that were started in it.

    Orbax leaves threads behind that go on writing into the folder of the step.
    """
    before = set(threading.enumerate())
    try:
        yield
    except Exception:
        deadline = time.monotonic() + _SETTLE_SECONDS
        for thread in set(threading.enumerate()) - before:
            # Threads of a pool idle on. Orbax's own `join` would raise the error of its thread again.
            if not thread.name.startswith(_POOLS):
                threading.Thread.join(thread, max(deadline - time.monotonic(), 0.0))
        raise
