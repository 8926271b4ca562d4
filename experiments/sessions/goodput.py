"""Account of a work folder's wall time by what it was spent on, over all starts of the program.

Each second belongs to one category, so that the categories add up to the time since the first start.
A thread writes them to goodput.json every HEARTBEAT_SECONDS: a process that is killed leaves its
account too, and the time from its last one to the start of the next process counts as idle. The
clock is the host's: "step" lasts until the metrics are there, and "data" is the wait for a batch, even
while an accelerator still computes the step before.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from experiments.sessions import goodput_record
from experiments.sessions.goodput_record import CATEGORIES, Record
from vdm.runtime.processes import is_first
from vdm.training.metrics_file import last_step

HEARTBEAT_SECONDS = 2.0

_COMPILATION = "/jax/core/compile/"


class Account:
    """Seconds of a work folder by category, those of earlier processes included."""

    def __init__(self, folder: Path, num_steps: int):
        """Args:
        folder: the work folder; its earlier account is read, and nothing is written yet.
        num_steps: number of steps of the whole run.
        """
        self._folder, self._num_steps = folder, num_steps
        self._lock, self._main = threading.RLock(), threading.get_ident()
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._past = goodput_record.read(folder)
        began, now = goodput_record.take_start(), time.time()
        past = self._past or Record(began, began, 0, 0, 0, {})

        # Another node's clock may be ahead of this one's: no time counts twice, none is negative.
        began = min(max(began, past.updated), now)
        self._seconds = dict.fromkeys(CATEGORIES, 0.0) | past.seconds
        self._seconds["idle"] += max(0.0, began - past.updated)
        self._seconds["start"] += now - began
        self._first_start, self._starts = past.first_start, past.starts + 1
        self._since, self._stack = time.monotonic(), ["start"]

        # The log knows better than an account of up to HEARTBEAT_SECONDS before the kill.
        self._reached = max(past.step, last_step(folder / "metrics.jsonl"))
        self._step, self._finished, self._is_shown = 0, past.finished, False
        self._compilations: list[tuple[float, float]] = []

    def record(self, earlier_seconds: float) -> None:
        """Write the account from here on, unless the run is finished and only shown again.

        Args:
          earlier_seconds: wall time of the run up to its checkpoint, for one without an account.
        """
        if self.is_finished():
            self._is_shown = is_first()
            return
        if self._past is None:
            self._seconds["earlier"] += earlier_seconds
            self._first_start -= earlier_seconds
        self._finished = 0
        if is_first():  # the processes of one run share the folder
            goodput_record.remove_partial(self._folder)
            # At once: without it, a kill within the first HEARTBEAT_SECONDS would lose this start.
            self._write(durable=False)
            self._heart.start()

    def start_step(self, step: int) -> None:
        """Count what is nothing else as training from here on.

        Args:
          step: number of updates made so far; fewer than a killed process had made are recomputed.
        """
        with self._lock:
            self._settle()
            self._step = max(self._step, step)
            self._stack[0] = "recomputed" if step < self._reached else "step"

    @contextlib.contextmanager
    def spending(self, category: str) -> Iterator[None]:
        """Count the time within the context to a category."""
        with self._lock:
            self._settle()
            self._stack.append(category)
        try:
            yield
        finally:
            with self._lock:
                self._settle()
                self._stack.pop()

    def compiled(self, seconds: float) -> None:
        """Count the last `seconds` of this thread as compilation.

        JAX reports a function that is traced within another twice, by itself and as a part of the
        other: the inner time counts once.
        """
        if threading.get_ident() != self._main:
            return
        end = time.monotonic()
        start = end - seconds
        while self._compilations and self._compilations[-1][0] >= start:
            inner_start, inner_end = self._compilations.pop()
            seconds -= inner_end - inner_start
        self._compilations.append((start, end))
        with self._lock:
            self._settle()
            category = self._stack[-1]
            seconds = min(max(seconds, 0.0), self._seconds[category])
            self._seconds[category] -= seconds
            self._seconds["compile"] += seconds

    def seconds(self) -> dict[str, float]:
        """Return {category: seconds} until now, without the categories that took none."""
        with self._lock:
            self._settle()
            return {name: value for name, value in self._seconds.items() if value > 0}

    def is_finished(self) -> bool:
        """Return whether the run was evaluated and reported after its last step."""
        return self._finished == self._num_steps

    def finish(self) -> None:
        """Note that the run was evaluated and reported after its last step."""
        self._finished = self._num_steps

    def close(self) -> Record | None:
        """Write the account for the last time and return it; None for a run that was refused."""
        if self._heart.ident is None:
            # A finished run that is shown again has spent none of the time since its end.
            return self._past if self._is_shown else None
        self._stop.set()
        self._heart.join()
        return self._write(durable=True)

    def _settle(self) -> None:
        """Add the time since the last call to the category that holds."""
        now = time.monotonic()
        self._seconds[self._stack[-1]] += now - self._since
        self._since = now

    def _beat(self) -> None:
        """Write the account now and then, in a thread of its own: a phase may take hours."""
        while not self._stop.wait(HEARTBEAT_SECONDS):
            self._write(durable=False)

    def _write(self, durable: bool) -> Record:
        with self._lock:
            seconds, step = self.seconds(), max(self._step, self._reached)
            # From the same clock as the sum of the categories, which a jump of the other leaves alone.
            updated = self._first_start + sum(seconds.values())
            record = Record(self._first_start, updated, self._starts, step, self._finished, seconds)
        goodput_record.write(self._folder, record, durable)
        return record


_active: Account | None = None
"""The account of the run of this process. Not passed from hand to hand: like the clock that it reads
and the compilations that JAX reports, it belongs to the process as a whole.
"""


@contextlib.contextmanager
def account(folder: Path, num_steps: int) -> Iterator[Account]:
    """Keep the account of a work folder within the context, and print it at the end.

    Args:
      folder: the work folder, locked by this process.
      num_steps: number of steps of the whole run.
    """
    global _active
    _listen_to_compilations()
    _active = opened = Account(folder, num_steps)
    try:
        yield opened
    finally:
        _active = None
        if (record := opened.close()) is not None:
            print(goodput_record.describe(record), flush=True)


@contextlib.contextmanager
def spending(category: str) -> Iterator[None]:
    """Count the time within the context, or in the decorated function, to a category, if any counts."""
    with _active.spending(category) if _active is not None else contextlib.nullcontext():
        yield


def record(earlier_seconds: float) -> None:
    """See `Account.record`; nothing is recorded without an account."""
    if _active is not None:
        _active.record(earlier_seconds)


def start_step(step: int) -> None:
    """See `Account.start_step`."""
    if _active is not None:
        _active.start_step(step)


def metrics() -> dict[str, float]:
    """Return {"seconds/CATEGORY": s} and "goodput", the share of wall time in steps that count."""
    if _active is None:
        return {}
    seconds = _active.seconds()
    goodput = seconds.get("step", 0.0) / max(sum(seconds.values()), 1e-9)
    rounded = {f"seconds/{name}": round(value, 3) for name, value in seconds.items()}
    return {"goodput": round(goodput, 5)} | rounded


@functools.cache
def _listen_to_compilations() -> None:
    """Have JAX report its compilations to the account that is open then; once in a process."""

    def report(event: str, duration_secs: float, **_: str | int) -> None:
        if _active is not None and event.startswith(_COMPILATION):
            _active.compiled(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(report)
