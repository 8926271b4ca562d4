"""Stop requests: SIGTERM, SIGHUP and Ctrl-C ask a run to stop where it can be resumed.

A second signal aborts at once. Before a stop request is entered, `vdm.runtime.interruption` holds.
"""

import os
import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils

from vdm.errors import Preempted
from vdm.runtime import interruption


class StopRequest:
    """The signal that asked this process to stop, if one did.

    A context manager, to be entered in the main thread, where alone Python handles signals; called, it
    says whether a signal came.

    Attributes:
      signal: name of the first signal, such as "SIGTERM"; None before one comes.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        numbers = interruption.to_handle()
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        early = interruption.current()
        early.over = True
        # Its exception may have been lost, as those are that are raised within a destructor.
        self.signal = self.signal or early.signal
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __call__(self) -> bool:
        return self.signal is not None

    def check(self) -> None:
        """Raise Preempted once a signal came."""
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


def _say(line: str) -> None:
    # Not print: the signal may have come within one, which cannot be entered twice.
    try:
        os.write(2, line.encode())
    except OSError:
        pass  # standard error is closed, and the stop must not fail for that


class _Forwarding:
    """Ctrl-C and SIGHUP, passed on to JAX as the SIGTERM that it waits for.

    Attributes:
      signal: name of the first such signal to this process; None before one comes.
    """

    def __init__(self) -> None:
        self.signal: str | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Ask JAX to stop all processes; a second Ctrl-C aborts this one."""
        del frame
        name = signal.Signals(number).name
        if self.signal is None:
            self.signal = name
            _say(f"{name}: stopping all processes after this step; again to abort this one\n")
            os.kill(os.getpid(), signal.SIGTERM)
        elif name == "SIGINT":
            raise KeyboardInterrupt


_forwarding = _Forwarding()


def forward_to_jax() -> None:
    """Make Ctrl-C and SIGHUP stop all processes of a run, once JAX has connected them.

    From then on JAX handles SIGTERM, in C++, and Python must leave that signal alone.
    """
    for number in interruption.to_handle():
        if number != signal.SIGTERM:
            signal.signal(number, _forwarding.handle)


class JointStopRequest:
    """The stop request of several processes: a signal to any one stops all at the same call.

    Every process makes the same calls in the same order; JAX, which handles the signal itself, agrees
    on the number of the call at which all stop. See `forward_to_jax` for signals other than SIGTERM.

    Attributes:
      signal: name of the signal to this process, "SIGTERM" if it came to another; None before one came.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._calls = 0

    def __enter__(self) -> "JointStopRequest":
        interruption.current().over = True
        return self

    def __exit__(self, *_) -> None:
        pass

    def __call__(self) -> bool:
        self._calls += 1
        # JAX says so at one call only, so the answer is remembered.
        if self.signal is None and multihost_utils.reached_preemption_sync_point(self._calls):
            self.signal = _forwarding.signal or "SIGTERM"
        return self.signal is not None

    def check(self) -> None:
        """Raise Preempted once a signal came to any process."""
        if self():
            raise Preempted(f"stopped by {self.signal}; nothing unfinished was written")


Stop = StopRequest | JointStopRequest


def stop_request() -> Stop:
    """Return the stop request that suits the number of processes; not yet entered."""
    return StopRequest() if jax.process_count() == 1 else JointStopRequest()
