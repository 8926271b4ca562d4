"""Signals that end a program before it has begun what can be resumed: in its imports and preparations.

SIGTERM, SIGHUP and Ctrl-C raise `Interrupted` in the main thread, wherever that is, so that every
`finally` on the way removes what is unfinished. A program that can do better, such as one that trains,
installs handlers of its own in time.
"""

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")
"""Names of the signals that ask a program to stop."""


_AGAIN_SECONDS = 0.05


class Interrupted(KeyboardInterrupt):
    """Raised by the first signal; `signal` is its name, such as "SIGTERM".

    No subclass of Exception: imports and libraries that pass over one kind of failure or another must
    not pass over this.
    """

    def __init__(self, name: str):
        super().__init__(f"stopped by {name}")
        self.signal = name


class Early:
    """The signal that came before the work began, if one did.

    Attributes:
      signal: its name; None before one comes.
      over: whether the work has begun, which installs handlers of its own and ends by itself.
      caught: whether the exception has arrived where the program ends.
      leave: ends the program at once, for a signal within an import; None raises there too.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self.over = self.caught = False
        self.leave: Callable[[], None] | None = None
        self._lost = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise at the first signal, and at a second Ctrl-C; others leave the clean-up in peace.

        Within an import call `leave` instead, unless data are being prepared meanwhile.
        """
        name = signal.Signals(number).name
        if self.signal is None or self._lost:
            self.signal, self._lost = self.signal or name, False
            # Half an import of an extension module, abandoned, can end in a segmentation fault.
            if self.leave is not None and _only_imports(frame):
                self.leave()
            raise self._interrupted(number)
        if name == "SIGINT":
            raise KeyboardInterrupt

    def _interrupted(self, number: int) -> Interrupted:
        """Return the exception, which is raised once more should it vanish on its way."""
        # Python drops what is raised within a destructor or a callback, of which an import makes many.
        error = Interrupted(self.signal or "")
        weakref.finalize(error, self._raise_again_soon, number).atexit = False
        return error

    def _raise_again_soon(self, number: int) -> None:
        # By a thread: raised here, within a callback too, it would be dropped again.
        if not self.caught:
            timer = threading.Timer(_AGAIN_SECONDS, self._raise_again, [number])
            timer.daemon = True
            timer.start()

    def _raise_again(self, number: int) -> None:
        if not self.caught and not self.over:
            self._lost = True
            os.kill(os.getpid(), number)


def _only_imports(frame: FrameType | None) -> bool:
    """Return whether a frame is part of an import, with no preparation of data under way around it."""
    imports = False
    while frame is not None:
        code, module = frame.f_code, frame.f_globals.get("__name__", "")
        imports |= code.co_filename.startswith("<frozen importlib")
        # A call, not the module's own statements: it may have made a scratch folder.
        if module.startswith("vdm.data.cache") and code.co_name != "<module>":
            return False
        frame = frame.f_back
    return imports


_current = Early()


def current() -> Early:
    """Return the record of the innermost `raised_by_signals`; an empty one outside of any."""
    return _current


@contextmanager
def raised_by_signals() -> Iterator[Early]:
    """Make signals raise `Interrupted` within the context, in the main thread; elsewhere do nothing."""
    global _current
    before, early = _current, Early()
    _current = early
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, early.handle) for number in to_handle()}
    try:
        yield early
    finally:
        early.caught = True
        _current = before
        for number, handler in handlers.items():
            signal.signal(number, handler)


def to_handle() -> list[signal.Signals]:
    """Return those of SIGNALS that the platform has, without SIGHUP where nohup ignores it."""
    available = [signal.Signals[name] for name in SIGNALS if hasattr(signal, name)]
    return [
        number
        for number in available
        if number.name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN
    ]
