"""Watchdog: ends a training that hangs, with every thread's stack on disk.

A collective that waits for a process which has stopped, a data source whose disk is gone, or a
deadlock within XLA never returns to Python. A daemon thread therefore watches the time since a step
began. It acts between steps only: compiling, evaluating, sampling and saving take as long as they take.
"""

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import jax

from vdm.errors import Preempted
from vdm.runtime.heartbeats import HEARTBEAT_SECONDS, Heartbeats
from vdm.training.loop import BLOCK_EVERY_STEPS
from vdm.training.state import TrainState
from vdm.training.step import TrainStep

TIMES_MEDIAN = 20
"""A step may take so many times the median of recent steps, where that is longer than the limit."""
SILENT_SECONDS = 45.0
"""Longest silence of another process within a step: after 100 s JAX would abort without a word."""

_RECENT = 20
_DUMP_SECONDS = 10.0
"""Longest wait for the stacks to be written: the disk may be what hangs."""
_REPORT_SECONDS = 15.0
"""Longest wait of the first process for the others to write theirs."""


class StepClock:
    """Seconds since a step began, and the median duration of recent steps.

    Attributes:
      step: the step that began last.
      waited: seconds since then; None while nothing is watched.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.step = 0
        self.waited: float | None = None
        self._clock, self._calls = clock, 0
        self._first_began = self._first_seconds = 0.0
        self._block_began: float | None = None
        self._block_steps = 0
        self._durations: deque[float] = deque(maxlen=_RECENT)

    def start_step(self, step: int) -> None:
        """Begin a step. The first of a process compiles, which takes as long as it takes."""
        self.step, self._calls = step, self._calls + 1
        if self._calls == 1:
            self._first_began = self._clock()
            return
        if self._calls == 2:
            self._first_seconds = self._clock() - self._first_began
        self.waited = 0.0
        if self._block_began is None:
            self._block_began, self._block_steps = self._clock(), 0
            return
        # Calls return before an accelerator is done: only BLOCK_EVERY_STEPS together are timed well,
        # and the first by itself, see `Watchdog.timed`.
        self._block_steps += 1
        if self._block_steps == BLOCK_EVERY_STEPS or not self._durations:
            self._end_block()
            self._block_began, self._block_steps = self._clock(), 0

    def pause(self) -> None:
        """Stop until the next step begins; all steps must have been computed."""
        if self._block_began is not None:
            self._block_steps += 1
            self._end_block()
        self.waited = self._block_began = None

    def median(self) -> float:
        """Return the median duration of recent steps in seconds; 0 where none is known.

        Until one is, that of the first step, which took longer because it compiled.
        """
        return statistics.median(self._durations) if self._durations else self._first_seconds

    def _end_block(self) -> None:
        assert self._block_began is not None
        self._durations.append((self._clock() - self._block_began) / self._block_steps)


class Watchdog:
    """Ends the process with exit code 75 when no step has begun for too long; a context manager.

    Too long is the larger of `limit_seconds` and TIMES_MEDIAN median step times; or SILENT_SECONDS, if
    that is less, while another process gives no sign of life. Every process of a run has its own, and
    all end together.
    """

    def __init__(
        self,
        folder: Path,
        limit_seconds: float,
        clock: StepClock | None = None,
        end: Callable[[int], None] = os._exit,
    ):
        """Args:
        folder: the work folder; stacks/ is made in it when it is needed.
        limit_seconds: shortest time without a new step that counts as a hang; 0 watches nothing.
        clock: measures the steps.
        end: ends the process with an exit code, at once: the main thread may never return to Python.
        """
        self._folder, self._limit_seconds, self._end = folder, limit_seconds, end
        self._period_seconds = min(max(limit_seconds / 20, 0.05), HEARTBEAT_SECONDS)
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._clock = clock or StepClock()

    def __enter__(self) -> "Watchdog":
        if self._limit_seconds:
            heartbeats = Heartbeats(self._period_seconds)
            watch = threading.Thread(
                target=self._watch, args=(heartbeats,), name="watchdog", daemon=True
            )
            watch.start()
        return self

    def __exit__(self, *_) -> None:
        self._closed.set()

    def start_step(self, step: int) -> None:
        """Watch from now on, anew."""
        with self._lock:
            self._clock.start_step(step)

    def pause(self) -> None:
        """Stop watching until the next step begins; all steps must have been computed."""
        with self._lock:
            self._clock.pause()

    def timed(self, train_step: TrainStep) -> TrainStep:
        """Return `train_step`, whose second call waits for its result, which gives a first duration."""
        calls = 0

        def step(state: TrainState, batch):
            nonlocal calls
            calls += 1
            result = train_step(state, batch)
            return jax.block_until_ready(result) if calls == 2 and self._limit_seconds else result

        return step

    def _watch(self, heartbeats: Heartbeats) -> None:
        before = time.monotonic()
        while not self._closed.wait(self._period_seconds):
            now = time.monotonic()
            # A process that was itself stopped meanwhile (Ctrl-Z) has not waited.
            seconds, before = min(now - before, 2 * self._period_seconds), now
            with self._lock:
                if self._clock.waited is not None:
                    self._clock.waited += seconds
                waited, step = self._clock.waited or 0.0, self._clock.step + 1
                limit = max(self._limit_seconds, TIMES_MEDIAN * self._clock.median())
            if _is_hanging(heartbeats, waited, limit):
                silent = heartbeats.silent(min(limit, SILENT_SECONDS) / 3)
                self._stop(heartbeats, step, waited, silent)
                return
        heartbeats.close()

    def _stop(self, heartbeats: Heartbeats, step: int, waited: float, silent: list[int]) -> None:
        """Write the stacks, say so in one line, and end the process.

        Args:
          heartbeats: tell the other processes.
          step: number of the step that hangs, 1 for the first update.
          waited: seconds since it began.
          silent: numbers of the processes that do not answer.
        """
        path = self._folder / "stacks" / f"rank-{jax.process_index()}-step-{step}.txt"
        headline = f"step {step} has not ended after {waited:.0f} s{_who(silent)}"
        # By another thread, which may hang too: the line and the exit must come whatever the disk does.
        writer = threading.Thread(target=_write_stacks, args=(path, headline), daemon=True)
        writer.start()
        writer.join(_DUMP_SECONDS)
        where = "could not be written to" if writer.is_alive() or not path.exists() else "is in"
        _say(f"error: {headline}; every thread's stack {where} {path}; run again to resume\n")

        # The first process ends last, because JAX aborts the others as soon as it is gone.
        heartbeats.report()
        heartbeats.await_reports(_REPORT_SECONDS, silent)
        self._end(Preempted.exit_code)


def _is_hanging(heartbeats: Heartbeats, waited: float, limit: float) -> bool:
    """Return whether to stop after so many seconds without a new step."""
    # The others are looked at in good time, but not while all goes well.
    heartbeats.watch(waited > min(limit, SILENT_SECONDS) / 4)
    return waited > limit or bool(heartbeats.silent(SILENT_SECONDS)) or heartbeats.has_reports()


def _who(silent: list[int]) -> str:
    if not silent:
        return ""
    numbers = ", ".join(map(str, silent))
    return (
        f"; process {numbers} of {jax.process_count()} does not answer"
        if len(silent) == 1
        else f"; processes {numbers} of {jax.process_count()} do not answer"
    )


def _write_stacks(path: Path, headline: str) -> None:
    """Write the Python stack of every thread, and what standard output still holds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.write(f"{headline}\n\n")
            file.flush()
            # From C, by the file's descriptor: it asks nothing of the threads.
            faulthandler.dump_traceback(file, all_threads=True)
    except OSError:
        pass  # the line says that there is none
    sys.stdout.flush()


def _say(line: str) -> None:
    """Write the last line of standard error: what other threads say of their end is drowned."""
    try:
        os.write(2, line.encode())
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    except OSError:
        pass
