"""SIGKILL to one of two processes: the other says so in one line and ends without a core dump."""

import signal

import pytest

from tests.experiments.conftest import ends
from tests.experiments.sessions.test_interrupted import wait_for_step

LONG = {"train.num_steps": 100_000, "train.log_every_steps": 1, "train.save_every_steps": 0}
LONG |= {"train.evaluate_every_steps": 0, "train.num_samples": 0}


@pytest.mark.slow
def test_a_process_that_is_killed_is_named(start_pair, tmp_path):
    first, second = start_pair(tmp_path / "run", LONG)
    wait_for_step(tmp_path / "run", 5, first)
    second.send_signal(signal.SIGKILL)
    ((code, errors),) = ends([first], 60)
    assert code == 75, errors
    assert errors.splitlines()[-1].startswith("error: process 1 of 2 ended or stopped; ")
