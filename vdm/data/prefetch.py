"""Batches made ahead of time by a thread, in exact order."""

import queue
import threading
from collections.abc import Callable
from typing import Any

DEPTH = 2
_POLL_SECONDS = 0.1


class Prefetcher:
    """`prefetcher(n)` gives make_batch(n) for n = start, start + 1, …, each made by a thread before.

    Each batch is a pure function of its number, so nothing is lost or changed by throwing away those
    that were made and never used. Use as a context manager: leaving it ends the thread.

    Args:
      make_batch: the (placed) batch of a number; copies to a device are asynchronous.
      start: the first number.
      stop: one past the last number.
      depth: batches made ahead, beside the one being made.
      stride: from one number to the next.
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
        """Batch `number`; raises what making it raised."""
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
        """Ends the thread, after the batch that it is making."""
        self._closed.set()
        self._thread.join()

    def _work(self, start: int) -> None:
        for number in range(start, self._stop, self._stride):
            item: tuple[Any, BaseException | None]
            try:
                item = (self._make_batch(number), None)
            except BaseException as error:  # handed to the caller, whatever it is
                item = (None, error)
            if not self._put(item) or item[1] is not None:
                return

    def _put(self, item: tuple) -> bool:
        """False once closed."""
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
