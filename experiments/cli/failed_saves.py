"""Silence for what Orbax and TensorStore print about a save that failed, which is reported once.

A full disk makes each of their threads log its own traceback, up to 50 in one save and some after the
error is already raised. The launcher's line says the same; --verbosity=1 shows them all.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

_LIBRARIES = ("orbax", "tensorstore")


def report_once() -> None:
    """Drop the libraries' own reports from logs, and from what threads print when they die."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_is_wanted)
    # Callbacks from C++ have no caller that an exception could reach: Python calls it unraisable.
    sys.unraisablehook = _without_libraries(sys.unraisablehook)
    threading.excepthook = _without_libraries(threading.excepthook)


def _is_wanted(record: logging.LogRecord) -> bool:
    """Return whether a log record is shown: not if it is the traceback of one of the libraries."""
    return not (record.exc_info and _is_theirs(record.exc_info[1], record.exc_info[2]))


def _without_libraries(hook: Callable[[Any], object]) -> Callable[[Any], None]:
    """Return a hook for exceptions that nothing caught, which passes on all but the libraries'."""

    def call(args: Any) -> None:
        if not _is_theirs(args.exc_value, args.exc_traceback):
            hook(args)

    return call


def _is_theirs(error: BaseException | None, trace: TracebackType | None) -> bool:
    """Return whether an exception came from a library that writes checkpoints."""
    # TensorStore's callbacks find the event loop of a save that was given up closed.
    if isinstance(error, RuntimeError) and str(error) == "Event loop is closed":
        return True
    files = [frame.filename for frame in traceback.extract_tb(trace)]
    return any(name in file for file in files for name in _LIBRARIES)
