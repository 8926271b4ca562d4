"""The memory that a call takes beside what its process holds already, by the system's own count."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth_bytes(call: Callable[[], Any]) -> int | None:
    """By how much resident memory rose at most while `call` ran; None where only Linux would tell."""
    gc.collect()
    _give_back()
    try:
        _RESET.write_text("5")  # the peak starts again at what is resident now
    except OSError:
        return None
    before = _kilobytes("VmRSS")
    jax.block_until_ready(call())
    return max(0, _kilobytes("VmHWM") - before) * 1024


def _give_back() -> None:
    """Memory that was freed but is kept for reuse would be used again unseen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _kilobytes(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
