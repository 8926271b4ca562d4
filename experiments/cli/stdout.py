"""Standard output that may be closed by its reader, as by `| head`, while the work goes on."""

import errno
import io
import os
import sys
from typing import TextIO

_CLOSED = {errno.EPIPE, errno.EIO}  # a pipe without a reader, a terminal that is gone


def outlive_readers() -> None:
    """From here on what nobody reads is dropped: a long run must not die of its progress lines."""
    sys.stdout, sys.stderr = _tolerant(sys.stdout), _tolerant(sys.stderr)


class _Descriptor(io.FileIO):
    """A file descriptor whose writes succeed also when nobody reads them."""

    _lost = False

    def write(self, content) -> int | None:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
        if not self._lost:
            self._lost = True
            self._report()
        return len(content)

    def _report(self) -> None:
        try:
            if self.fileno() != 2:
                os.write(2, b"WARNING: nobody reads the output any more; going on without it\n")
        except OSError:
            pass


def _tolerant(stream: TextIO) -> TextIO:
    """The same stream over a `_Descriptor`; as it is where it has none, such as in a test."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return stream
    stream.flush()
    raw = _Descriptor(descriptor, "w", closefd=False)
    unbuffered = bool(getattr(stream, "write_through", False))  # python -u
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=bool(stream.line_buffering),
        write_through=unbuffered,
    )
