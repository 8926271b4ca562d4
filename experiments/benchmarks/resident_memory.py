"""Peak resident memory of a call above the process's baseline, from /proc (Linux only)."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth_bytes(call: Callable[[], Any]) -> int | None:
    """Return the peak growth of resident memory in bytes while `call` runs; None except on Linux.

    Args:
      call: a function that returns arrays to wait for.
    """
    # Freed memory that is still resident would be used again without showing as growth.
    gc.collect()
    _give_back()
    try:
        # 5 resets the recorded peak, VmHWM, to what is resident now, see proc(5).
        _RESET.write_text("5", encoding="utf-8")
    except OSError:
        return None
    before = _kilobytes("VmRSS")
    jax.block_until_ready(call())
    return max(0, _kilobytes("VmHWM") - before) * 1024


def _give_back() -> None:
    """Return freed memory to the system, where the C library is glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _kilobytes(name: str) -> int:
    """Return a field of /proc/self/status, kB."""
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
