"""Ctrl-C and SIGHUP to one of two processes: both save one step, and resume as if never stopped."""

import signal

import pytest

from tests.experiments.conftest import ends
from tests.experiments.sessions.test_interrupted import LONG as SINGLE
from tests.experiments.sessions.test_interrupted import record, wait_for_step

LONG = {
    **SINGLE,
    "train.num_samples": 0,
    "train.evaluate_every_steps": 0,
    "train.save_every_steps": 0,
}


@pytest.fixture(scope="module")
def never_stopped(start_pair_once, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("never_stopped")
    outcomes = ends(start_pair_once(workdir, LONG), 120)
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    return record(workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "rank"),
    [(signal.SIGINT, 0), pytest.param(signal.SIGHUP, 1, marks=pytest.mark.nightly)],
)
def test_resumed_equals_never_stopped(never_stopped, start_pair, tmp_path, number, rank):
    processes = start_pair(tmp_path, LONG)
    wait_for_step(tmp_path, 20, processes[0])
    processes[rank].send_signal(number)
    outcomes = ends(processes, 100)
    assert [code for code, _ in outcomes] == [75, 75], outcomes
    (step,) = [int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert 20 <= step < 100
    names = ["SIGTERM", "SIGTERM"]
    names[rank] = number.name
    for name, (_, errors) in zip(names, outcomes, strict=True):
        assert f"stopped by {name}; saved step {step}" in errors.splitlines()[-1]
    outcomes = ends(start_pair(tmp_path, LONG), 120)
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert record(tmp_path) == never_stopped
