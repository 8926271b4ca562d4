"""Standard output and error that may fail without ending the run.

Their reader may go, as `| head` does, and the disk of a log file may fill up while the work folder,
elsewhere, has room.
"""

import errno
import io
import os
import sys
from typing import TextIO

from vdm.runtime.files import FULL_ERRNOS

_UNREAD = {errno.EPIPE, errno.EIO}  # a pipe without a reader, a terminal that is gone
_FULL = FULL_ERRNOS | {errno.EFBIG}  # the last of a file that may not grow further


def outlive_readers() -> None:
    """Replace standard output and error by streams that drop what cannot be written.

    Otherwise a run of days would end at its next progress line.
    """
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)


class _Descriptor(io.FileIO):
    """A file descriptor whose writes succeed even when its reader is gone or its disk is full."""

    _lost = False

    def write(self, content) -> int | None:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in _UNREAD | _FULL:
                raise
            reason = "nobody reads it any more" if error.errno in _UNREAD else error.strerror
        # Warned once; the bytes are counted as written, or the buffer above would try them again.
        # Each write is still tried: a full disk may have room again.
        if not self._lost:
            self._lost = True
            self._report(str(reason))
        return len(content)

    def _report(self, reason: str) -> None:
        """Warn on the other of standard output and error."""
        name, other = ("stderr", 1) if self.fileno() == 2 else ("stdout", 2)
        line = f"WARNING: {name} cannot be written ({reason}); going on without it\n"
        try:
            os.write(other, line.encode())
        except OSError:
            pass  # it is gone too


def tolerant(stream: TextIO) -> TextIO:
    """Return the stream over a `_Descriptor`; unchanged where it has no descriptor, as in a test."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return stream
    # The old buffer is flushed first: two buffers over one descriptor would mix up the order.
    stream.flush()
    raw = _Descriptor(descriptor, "w", closefd=False)
    unbuffered = bool(getattr(stream, "write_through", False))  # python -u
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),  # type: ignore[type-var]
        encoding=stream.encoding,
        # A name that the terminal's encoding lacks is shown by its number, and ends no run.
        errors="backslashreplace",
        line_buffering=bool(stream.line_buffering),
        write_through=unbuffered,
    )
