"""Counters of processes: one that stands still is named, one that was removed in good order is not."""

import threading
import time
from types import SimpleNamespace

import jax
import pytest
from jax.experimental import multihost_utils

from vdm.runtime.heartbeats import Heartbeats, find_stopped


class Store(dict):
    """JAX's key-value store, within this process."""

    def key_value_set(self, key, value, allow_overwrite=False):
        self[key] = value

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.copy().items() if key.startswith(prefix)]

    def key_value_delete(self, key):
        self.pop(key, None)


@pytest.fixture
def store(monkeypatch):
    """The store of a run of two processes."""
    store = Store()
    state = SimpleNamespace(global_state=SimpleNamespace(client=store))
    monkeypatch.setattr(multihost_utils, "distributed", state)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    return store


def wait_until(condition):
    deadline = time.monotonic() + 10.0
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def test_a_process_that_closed_its_counter_has_not_stopped(store, monkeypatch):
    """Such as in the final evaluation, where an error of process 0 is its own."""
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    heartbeats = Heartbeats(period_seconds=0.01)
    wait_until(lambda: store)
    killed = store.copy()
    heartbeats.close()
    wait_until(lambda: all(thread.name != "heartbeats" for thread in threading.enumerate()))
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    assert find_stopped(0.05) == []
    store.update(killed)
    assert find_stopped(0.05) == [1]
