"""Signals and kills in the middle of a run: what is resumed equals what was never stopped."""

import json
import signal
import time

import pytest

from tests.experiments.conftest import repeatable
from vdm.training.writers import read_json_lines

LONG = {"train.num_steps": 100, "train.log_every_steps": 1, "train.save_every_steps": 10}
LONG |= {"train.evaluate_every_steps": 25}


def wait_for_step(workdir, step, process, timeout=120.0):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        lines = read_json_lines(workdir / "metrics.jsonl")
        if lines and lines[-1]["step"] >= step:
            return
        assert process.poll() is None, process.read()
        time.sleep(0.02)
    pytest.fail(f"no step {step} within {timeout} s")


def record(workdir):
    """Every logged number that no clock changes, and the hashes of the last checkpoint."""
    lines = read_json_lines(workdir / "metrics.jsonl")
    kept = [repeatable(line) for line in lines]
    path = workdir / "checkpoints" / "100" / "record" / "metadata"
    return kept, json.loads(path.read_text())["content"]["arrays"]


@pytest.fixture(scope="module")
def never_stopped(launch, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("never_stopped")
    done = launch("train", workdir, overrides=LONG)
    assert done.returncode == 0, done.stderr
    return record(workdir)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL],
)
def test_resumed_equals_never_stopped(never_stopped, start_training, launch, tmp_path, number):
    process = start_training(tmp_path, LONG)
    wait_for_step(tmp_path, 37, process)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    if number != signal.SIGKILL:
        assert process.returncode == 75, output
        step = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
        assert f"stopped by {number.name}; saved step {step}" in output
    done = launch("train", tmp_path, overrides=LONG)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stdout
    assert record(tmp_path) == never_stopped


@pytest.mark.nightly
def test_a_second_signal_within_the_save(never_stopped, start_training, launch, tmp_path):
    """Fault: a second SIGTERM 0 to 60 ms after the first. What was saved stays whole."""
    often = LONG | {"train.save_every_steps": 1}
    for n, delay in enumerate((0.0, 0.02, 0.06), start=1):
        process = start_training(tmp_path, often)
        wait_for_step(tmp_path, 20 * n, process)
        for pause in (delay, 0.0):
            process.send_signal(signal.SIGTERM)
            time.sleep(pause)
        output = process.communicate(timeout=60)[0]
        assert process.returncode in (75, 130), output
    done = launch("train", tmp_path, overrides=often)
    assert done.returncode == 0 and "resuming" in done.stdout, done.stderr
    assert "damaged" not in done.stderr and record(tmp_path) == never_stopped


def test_a_second_job_is_kept_out(start_training, launch, tmp_path):
    process = start_training(tmp_path, LONG | {"train.num_steps": 100_000})  # outlasts the second
    wait_for_step(tmp_path, 1, process)
    second = launch("train", tmp_path, overrides=LONG)
    assert second.returncode == 2
    assert f"in use by process {process.pid}" in second.stderr
