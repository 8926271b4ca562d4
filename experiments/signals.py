"""SIGTERM and Ctrl-C ask a run to stop where it can be resumed; a second one aborts at once."""

import signal
import sys
from types import FrameType

from vdm.errors import Preempted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether a signal asked to stop. Use as a context manager, from the main thread."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __call__(self) -> bool:
        return self.signal is not None

    def check(self) -> None:
        """Raises Preempted once a signal came."""
        if self.signal:
            raise Preempted(f"stopped by {self.signal}; nothing unfinished was written")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name
        print(f"{self.signal}: stopping after this step; again to abort", file=sys.stderr)
