"""Batches made ahead of time by a thread, in exact order."""

import queue
import threading
from collections.abc import Callable
from typing import Any

DEPTH = 2
"""Batches made ahead by default: one to use next and one in reserve."""
_POLL_SECONDS = 0.1


class Prefetcher:
    """A function `prefetcher(n)` that gives make_batch(n) for n = start, start + stride, and so on.

    A thread makes the batches ahead of their use. Each batch is a pure function of its number, so
    batches that were made and never used can be thrown away without loss. Use it as a context
    manager: leaving it ends the thread.

    Args:
      make_batch: number -> the (placed) batch; copies to a device are asynchronous.
      start: the first number.
      stop: upper limit of the numbers, exclusive.
      depth: batches made ahead, beside the one being made.
      stride: distance from one number to the next.
    """

    def __init__(
        self,
        make_batch: Callable[[int], Any],
        start: int,
        stop: int,
        depth: int = DEPTH,
        stride: int = 1,
    ):
        self._make_batch, self._next, self._stop, self._stride = make_batch, start, stop, stride
        self._queue: queue.Queue = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(start,), daemon=True)
        self._thread.start()

    def __call__(self, number: int) -> Any:
        """Return batch `number`, or raise what making it raised.

        Numbers must come in order: another one is a fault of the caller and raises ValueError.
        """
        if not self._next == number < self._stop:
            raise ValueError(f"batch {number} asked for; the next is {self._next} of {self._stop}")
        if self._closed.is_set():
            raise ValueError(f"batch {number} asked for after the end")
        batch, error = self._queue.get()
        if error is not None:
            raise error
        self._next += self._stride
        return batch

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the thread, after the batch that it is making."""
        self._closed.set()
        self._thread.join()

    def _work(self, start: int) -> None:
        """Make all batches in order, in the thread, until an error or the end."""
        for number in range(start, self._stop, self._stride):
            item: tuple[Any, BaseException | None]
            try:
                item = (self._make_batch(number), None)
            except BaseException as error:  # handed to the caller, whatever it is
                item = (None, error)
            if not self._put(item) or item[1] is not None:
                return

    def _put(self, item: tuple) -> bool:
        """Put an item into the queue; return False if the prefetcher was closed meanwhile."""
        # Waiting without a limit would never notice that the reader has gone.
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
