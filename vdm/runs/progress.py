"""Progress of a long task: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

PLAIN_EVERY_SECONDS = 10.0
"""Seconds between two plain lines."""


class Progress:
    """A counter up to `total`, shown on the terminal; a context manager."""

    def __init__(self, title: str, total: int, unit: str, done: int = 0):
        """Start the counter.

        Args:
          title: words before the count.
          total: units when the task is done.
          unit: their name, such as "steps".
          done: units done before, by an earlier process; they do not count for the speed.
        """
        self._title, self._total, self._unit = title, total, unit
        self._first = self._done = done
        self._started = self._printed = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=title,
            unit=unit,
            disable=not self._is_terminal,
            dynamic_ncols=True,
            leave=False,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def update(self, done: int, text: str = "", *, show: bool = False) -> None:
        """Set the count.

        Args:
          done: units done in all.
          text: values to show beside it.
          show: whether a plain line is printed now, whatever the time since the last.
        """
        self._bar.update(done - self._done)
        self._done = done
        if text:
            self._bar.set_postfix_str(text)
        due = time.monotonic() - self._printed > PLAIN_EVERY_SECONDS
        if show or (due and not self._is_terminal):
            self._printed = time.monotonic()
            self.write(f"{self._title} {done}/{self._total} {self._unit}  {text}  {self._left()}")

    def write(self, line: str) -> None:
        """Print a line of its own that stays above the bar."""
        with tqdm.external_write_mode(file=sys.stdout):
            print(line, flush=True)

    def _left(self) -> str:
        """Return the time left at the mean speed so far, or the whole time once all is done."""
        since = self._done - self._first
        if not since or self._done >= self._total:
            return f"{format_seconds(time.monotonic() - self._started)} in all"
        seconds = (time.monotonic() - self._started) / since * (self._total - self._done)
        return f"{format_seconds(seconds)} left"


def format_seconds(seconds: float) -> str:
    """Return seconds as text: 75 -> "1:15", 3675 -> "1:01:15"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def evaluation_progress(bar: Progress, check: Callable[[], None]) -> Callable[[int, int], None]:
    """Return a callback for `vdm.evaluation.evaluate`; `check` may raise to stop it after a batch."""

    def report(done: int, total: int) -> None:
        del total
        bar.update(done)
        check()

    return report
