"""A run killed 100 times in succession, and one stopped 20 times: nothing is lost or changed."""

import json
import re
import signal
import subprocess
import time

import numpy as np
import pytest

from tests.experiments.conftest import repeatable
from vdm.training.writers import read_json_lines

NUM_INTERRUPTIONS = {signal.SIGKILL: 100, signal.SIGTERM: 20}
NUM_STEPS = 1500
# Saving takes longer than the step before it, so that kills hit both.
OPTIONS = {"train.num_steps": NUM_STEPS, "train.log_every_steps": 1, "train.save_every_steps": 2}
OPTIONS |= {"denoiser.name": "mlp", "denoiser.mlp.width": 16, "denoiser.mlp.num_blocks": 1}
OPTIONS |= {"train.evaluate_every_steps": 0, "train.num_samples": 0, "train.writers": "json_lines"}
RARELY = OPTIONS | {"train.save_every_steps": 500}
"""Options of a shorter run; the steps at which it saves change no number."""


def steps_on_disk(workdir):
    folder = workdir / "checkpoints"
    return [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.exists() else []


def record(workdir):
    """Every logged number that no clock changes, and the hashes of the last checkpoint."""
    lines = read_json_lines(workdir / "metrics.jsonl")
    kept = [repeatable(line) for line in lines]
    path = workdir / "checkpoints" / str(NUM_STEPS) / "record" / "metadata"
    return kept, json.loads(path.read_text())["content"]["arrays"]


def wait_for_new_step(process, restored):
    """Wait until `process` has logged a step beyond the one that it restored."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        # From what it prints: metrics.jsonl may still hold steps past the restored one.
        shown = re.findall(r"^training (\d+)/", process.read(), re.MULTILINE)
        if shown and int(shown[-1]) > restored:
            return
        assert process.poll() is None, process.read()
        time.sleep(0.005)
    pytest.fail("no step within 120 s")


def interrupt_often(start_training, workdir, number, seed):
    """(restarts that restored a later step, kills that left a partial save)."""
    rng, restored, later, partial = np.random.default_rng(seed), 0, 0, 0
    for _ in range(NUM_INTERRUPTIONS[number]):
        process = start_training(workdir, OPTIONS)
        wait_for_new_step(process, restored)
        time.sleep(rng.uniform(0.1, 0.4))
        process.send_signal(number)
        try:
            output = process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            pytest.fail("it does not stop")
        if number == signal.SIGTERM:
            assert process.returncode == 75, output
        newest = max(steps_on_disk(workdir), default=0)
        assert newest < NUM_STEPS, "the run was over before it was killed so often"
        later, restored = later + (newest > restored), newest
        partial += any((workdir / "checkpoints").glob("*tmp*"))
    return later, partial


@pytest.fixture(scope="module")
def never_stopped(launch, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("never_stopped")
    done = launch("train", workdir, overrides=RARELY)
    assert done.returncode == 0, done.stderr
    return record(workdir)


@pytest.mark.nightly
@pytest.mark.parametrize("number", NUM_INTERRUPTIONS)
def test_killed_often_equals_never_stopped(never_stopped, start_training, launch, tmp_path, number):
    later, partial = interrupt_often(start_training, tmp_path, number, seed=int(number))
    # Most restarts get further, and some kills hit a save.
    assert later >= 0.75 * NUM_INTERRUPTIONS[number]
    assert partial >= 5 or number == signal.SIGTERM
    done = launch("train", tmp_path, "--allow_change=train.save_every_steps", overrides=RARELY)
    assert done.returncode == 0, done.stderr
    assert record(tmp_path) == never_stopped
    assert len(steps_on_disk(tmp_path)) == 3
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))
