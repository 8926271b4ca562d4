"""Stopping by signal inside long tasks, and names of work folders."""

import os
import re
import signal

import numpy as np
import pytest

from experiments import sampling, workdir
from experiments.progress import format_seconds
from experiments.signals import StopRequest
from vdm.errors import Preempted
from vdm.samplers import Trajectory


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
    path = str(workdir.default_workdir("configs/digits.py"))
    assert re.fullmatch(r"runs/digits-\d{8}-\d{6}", path)


def test_seconds_read_as_a_clock():
    assert [format_seconds(s) for s in (0.4, 75, 3675)] == ["0:00", "1:15", "1:01:15"]
