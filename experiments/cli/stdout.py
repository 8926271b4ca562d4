"""Standard output that outlives its reader: `| head` may close it while the run goes on."""

import errno
import io
import os
import sys
from typing import TextIO

_CLOSED = {errno.EPIPE, errno.EIO}  # a pipe without a reader, a terminal that is gone


def outlive_readers() -> None:
    """Replace standard output and error by streams that drop writes once their reader is gone.

    Otherwise a run of days would end with BrokenPipeError at its next progress line.
    """
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)


class _Descriptor(io.FileIO):
    """A file descriptor whose writes succeed even when its reader is gone."""

    _lost = False

    def write(self, content) -> int | None:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
        # Warned once; the bytes are counted as written, or the buffer above would try them again.
        if not self._lost:
            self._lost = True
            self._report()
        return len(content)

    def _report(self) -> None:
        """Warn on standard error, unless that is the stream whose reader is gone."""
        try:
            if self.fileno() != 2:
                os.write(2, b"WARNING: nobody reads the output any more; going on without it\n")
        except OSError:
            pass


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
