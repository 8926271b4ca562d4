"""Signs of life that the processes of one run give each other, through JAX's coordination service.

A thread of each process writes a counter into the service's key-value store, which lies in the first
process. A counter that stands still belongs to a process that is stopped, dead or cut off; where the
store itself does not answer, that is the first one.
"""

import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 2.0
"""Longest time between two beats."""
_END_SECONDS = 1.0
"""Time between a process's report and its end."""
_BEATS, _REPORTS = "vdm/heartbeats/", "vdm/reports/"


class Heartbeats:
    """The counters of all processes, written and read by a daemon thread until `close`."""

    def __init__(self, period_seconds: float, clock: Callable[[], float] = time.monotonic):
        """Args:
        period_seconds: time between two beats.
        clock: gives the time in seconds.
        """
        self._period_seconds, self._clock, self._client = period_seconds, clock, _client()
        self._closed, self._reading = threading.Event(), False
        self._beats: dict[str, str] = {}
        self._reported: set[int] = set()
        now = clock()
        self._changed = dict.fromkeys(range(jax.process_count()), now)
        if self._client is not None:
            threading.Thread(target=self._run, name="heartbeats", daemon=True).start()

    def watch(self, reading: bool) -> None:
        """Read the others' counters from now on, or no longer: all the time would burden the first."""
        if reading and not self._reading:
            self._changed = dict.fromkeys(self._changed, self._clock())
        self._reading = reading

    def silent(self, seconds: float) -> list[int]:
        """Return the processes not heard of for so long, of the time that they were watched for."""
        if not self._reading or self._client is None:
            return []
        now, here = self._clock(), jax.process_index()
        late = [i for i, at in self._changed.items() if i != here and now - at > seconds]
        # Nothing is heard of anybody without the first process, which holds the store.
        return [0] if here and 0 in late else late

    def has_reports(self) -> bool:
        """Return whether another process has said that it is about to end."""
        return bool(self._reported - {jax.process_index()})

    def report(self) -> None:
        """Tell the others that this process is about to end."""
        client = self._client
        if client is not None:
            # The call may hang, as the first process does.
            key = f"{_REPORTS}{jax.process_index()}"
            telling = threading.Thread(
                target=_try, args=(lambda: client.key_value_set(key, "1"),), daemon=True
            )
            telling.start()
            telling.join(1.0)

    def await_reports(self, seconds: float, silent: Collection[int]) -> None:
        """Wait, as the first process, until the others have reported, but for the silent ones.

        Args:
          seconds: longest wait.
          silent: processes that are not waited for.
        """
        if self._client is None or jax.process_index():
            return
        self.watch(True)
        expected = set(self._changed) - {0} - set(silent)
        deadline = self._clock() + seconds
        while self._clock() < deadline and not expected <= self._reported:
            time.sleep(self._period_seconds)
        time.sleep(_END_SECONDS)

    def close(self) -> None:
        """End the thread, which removes its counter: the process lives on, and beats no more."""
        self._closed.set()

    def _run(self) -> None:
        number = 0
        while not self._closed.wait(self._period_seconds):
            number += 1
            # Blocks for minutes where the first process does not answer.
            _try(lambda: self._beat(number))  # noqa: B023
        # A counter that stands still would make this process pass for one that has stopped.
        _try(lambda: self._client.key_value_delete(f"{_BEATS}{jax.process_index()}"))

    def _beat(self, number: int) -> None:
        here = jax.process_index()
        self._client.key_value_set(f"{_BEATS}{here}", str(number), allow_overwrite=True)
        if not self._reading:
            return
        for key, value in self._client.key_value_dir_get(_BEATS):
            if self._beats.get(key) != value:
                self._beats[key] = value
                self._changed[int(key.rpartition("/")[2])] = self._clock()
        reports = self._client.key_value_dir_get(_REPORTS)
        self._reported = {int(key.rpartition("/")[2]) for key, _ in reports}


def find_stopped(seconds: float) -> list[int]:
    """Return the processes whose counters stand still for so long; none of those that had none.

    Args:
      seconds: how long to wait; longer than two beats.
    """
    client = _client()
    if client is None or jax.process_index():
        return []  # without the first process JAX aborts this one, and may do so while it waits
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    _try(lambda: before.update(client.key_value_dir_get(_BEATS)))
    time.sleep(seconds)
    _try(lambda: after.update(client.key_value_dir_get(_BEATS)))
    still = {int(key.rpartition("/")[2]) for key in after if before.get(key) == after[key]}
    # A process may end its own heartbeats, and this one has no reason to name itself.
    return sorted(still - {jax.process_index()})


def _client() -> Any:
    """Return the client of JAX's coordination service; None in a run of one process."""
    if jax.process_count() == 1:
        return None
    # JAX gives no documented access to its key-value store: this is the way its own exchanges take.
    return multihost_utils.distributed.global_state.client


def _try(call: Callable[[], object]) -> None:
    """Call; a service that fails gives no sign of life, which is noticed as such."""
    try:
        call()
    except Exception:
        pass
