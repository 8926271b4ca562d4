"""Images per second of training alone."""

import time
from collections.abc import Callable


class Speed:
    """Training speed in images/s, by a clock that runs only during training steps.

    It runs from the start of a step until `stop` or `take`. The first step compiles and
    is not measured.
    """

    def __init__(self, images_per_step: int, clock: Callable[[], float] = time.monotonic):
        """Args:
        images_per_step: images in one call of the compiled step.
        clock: gives the time in seconds.
        """
        self._images_per_step, self._clock = images_per_step, clock
        self._steps, self._seconds = -1, 0.0
        self._since: float | None = None

    def start_step(self) -> None:
        """Start the clock for another step; an accelerator may still be computing the one before."""
        self._steps += 1
        if self._steps and self._since is None:
            self._since = self._clock()

    def stop(self) -> None:
        """Stop the clock before evaluation, sampling or saving; all steps must have been computed."""
        if self._since is not None:
            self._seconds += self._clock() - self._since
            self._since = None

    def take(self) -> float | None:
        """Return images per second since the last call; None before the second step."""
        self.stop()
        images, seconds = self._steps * self._images_per_step, self._seconds
        # -1 before the first step stays, so that the first is still left out when it comes.
        self._steps, self._seconds = min(self._steps, 0), 0.0
        return images / seconds if images > 0 and seconds > 0 else None
