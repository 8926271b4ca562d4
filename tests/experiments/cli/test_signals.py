"""Stopping by signal inside long tasks, and names of work folders."""

import io
import os
import re
import signal
import sys

import numpy as np
import pytest

from experiments.cli.signals import StopRequest
from experiments.sessions import sampling
from vdm.errors import Preempted
from vdm.runs.folder import default_workdir
from vdm.runs.progress import format_seconds
from vdm.samplers import Trajectory


class InterruptedWriter(io.RawIOBase):
    """A file during whose write a signal comes."""

    def writable(self):
        return True

    def write(self, content):
        os.kill(os.getpid(), signal.SIGTERM)
        return len(content)


def test_a_signal_within_a_print(monkeypatch, capfd):
    """print cannot be entered twice: the handler must not use it."""
    stream = io.TextIOWrapper(
        io.BufferedWriter(InterruptedWriter()), encoding="utf-8", write_through=True
    )
    monkeypatch.setattr(sys, "stderr", stream)
    with StopRequest() as stop:
        print("progress", file=sys.stderr, flush=True)
        assert stop()
    assert "SIGTERM: stopping after this step" in capfd.readouterr().err


def test_nobody_reads_what_the_handler_says():
    reader, writer = os.pipe()
    os.close(reader)
    kept = os.dup(2)
    try:
        os.dup2(writer, 2)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(writer)


@pytest.fixture
def hang_up():
    """SIGHUP as a terminal leaves it, also when the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_closes_asks_once(hang_up):
    """Shell and terminal each may send SIGHUP: the second does not abort the saving."""
    with StopRequest() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signal == "SIGHUP"
        with pytest.raises(Preempted, match="SIGHUP"):
            stop.check()


def test_nohup_keeps_it_running():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop() and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_aborts(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        stop.check()
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        with pytest.raises(Preempted, match=number.name) as stopped:
            stop.check()
        assert stopped.value.exit_code == 75
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 1)  # gives Python a chance to run the handler
    assert signal.getsignal(number) is before


def test_sampling_stops_within_one_batch():
    drawn = []

    def step(params, seed, index):
        drawn.extend(index.tolist())
        if len(drawn) == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        images = np.zeros((len(index), 2, 2, 1), np.int32)
        return Trajectory(images, images[None], images[None])

    with StopRequest() as stop, pytest.raises(Preempted):
        sampling.draw_samples(step, None, 0, num=100, batch_size=4, check=stop.check)
    assert drawn == list(range(8))


def test_the_default_folder_names_configuration_and_time():
    path = str(default_workdir("configs/digits.py"))
    assert re.fullmatch(r"runs/digits-\d{8}-\d{6}", path)


def test_seconds_read_as_a_clock():
    assert [format_seconds(s) for s in (0.4, 75, 3675)] == ["0:00", "1:15", "1:01:15"]
