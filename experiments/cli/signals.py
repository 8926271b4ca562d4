"""SIGTERM, SIGHUP and Ctrl-C ask a run to stop where it can be resumed; a second one aborts at once."""

import os
import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils

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


class JointStopRequest:
    """The same for several processes: a SIGTERM to any one stops all at the same call.

    Every process makes the same calls in the same order; JAX, which handles the signal itself, agrees
    on the number of the call at which all stop.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._calls = 0

    def __enter__(self) -> "JointStopRequest":
        return self

    def __exit__(self, *_) -> None:
        pass

    def __call__(self) -> bool:
        self._calls += 1
        # True at one call only, so it is kept.
        if self.signal is None and multihost_utils.reached_preemption_sync_point(self._calls):
            self.signal = "SIGTERM"
        return self.signal is not None

    def check(self) -> None:
        """Raises Preempted once a signal came to any process."""
        if self():
            raise Preempted(f"stopped by {self.signal}; nothing unfinished was written")


def stop_request() -> StopRequest | JointStopRequest:
    """The one that suits the number of processes."""
    return StopRequest() if jax.process_count() == 1 else JointStopRequest()
