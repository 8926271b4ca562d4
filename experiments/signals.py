"""SIGTERM, SIGHUP and Ctrl-C ask a run to stop where it can be resumed; a second one aborts at once."""

import os
import signal
from types import FrameType

from vdm.errors import Preempted

_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")


class StopRequest:
    """Whether a signal asked to stop. Use as a context manager, from the main thread."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._handle) for number in _to_handle()}
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
        name = signal.Signals(number).name
        if self.signal is None:
            self.signal = name
            _say(f"{name}: stopping after this step; again to abort\n")
        elif name != "SIGHUP":  # a shell and the terminal that closes may each send one
            raise KeyboardInterrupt


def _to_handle() -> list[signal.Signals]:
    """Those the platform has; SIGHUP stays ignored where nohup ignores it."""
    found = [signal.Signals[name] for name in _SIGNALS if hasattr(signal, name)]
    return [
        number
        for number in found
        if number.name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN
    ]


def _say(line: str) -> None:
    # Not print: the signal may have come within one, which cannot be entered twice.
    try:
        os.write(2, line.encode())
    except OSError:
        pass  # nobody is listening any more
