"""One run killed 20 times in succession, and one stopped as often: nothing is lost or changed."""

import json
import signal
import subprocess
import time

import numpy as np
import pytest

from vdm.training.writers import read_json_lines

NUM_KILLS, NUM_STEPS = 20, 250
# Saving takes longer than the step before it, so that kills hit both.
OPTIONS = {"train.num_steps": NUM_STEPS, "train.log_every_steps": 1, "train.save_every_steps": 2}
OPTIONS |= {"denoiser.name": "mlp", "denoiser.mlp.width": 16, "denoiser.mlp.num_blocks": 1}
OPTIONS |= {"train.evaluate_every_steps": 0, "train.num_samples": 0, "train.writers": "json_lines"}


def steps_on_disk(workdir):
    folder = workdir / "checkpoints"
    return [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.exists() else []


def record(workdir):
    """Every logged number that no clock changes, and the hashes of the last checkpoint."""
    lines = read_json_lines(workdir / "metrics.jsonl")
    kept = [{n: v for n, v in line.items() if "second" not in n} for line in lines]
    path = workdir / "checkpoints" / str(NUM_STEPS) / "record" / "metadata"
    return kept, json.loads(path.read_text())["content"]["arrays"]


def inode(path):
    return path.stat().st_ino if path.exists() else None


def wait_for_new_step(workdir, process, restored, old_inode):
    """Wait until `process` has logged a step beyond the one that it restored."""
    path, deadline = workdir / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline:
        # Resuming replaces the file by one that is cut to the restored step.
        if inode(path) not in (None, old_inode):
            lines = read_json_lines(path)
            if lines and lines[-1]["step"] > restored:
                return
        assert process.poll() is None, process.read()
        time.sleep(0.005)
    pytest.fail("no step within 120 s")


def interrupt_often(start_training, workdir, number, seed):
    """(restarts that restored a later step, kills that left a partial save)."""
    rng, restored, later, partial = np.random.default_rng(seed), 0, 0, 0
    for _ in range(NUM_KILLS):
        old_inode = inode(workdir / "metrics.jsonl")
        process = start_training(workdir, OPTIONS)
        wait_for_new_step(workdir, process, restored, old_inode)
        time.sleep(rng.uniform(0.3, 0.9))
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
    done = launch("train", workdir, overrides=OPTIONS)
    assert done.returncode == 0, done.stderr
    return record(workdir)


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_often_equals_never_stopped(never_stopped, start_training, launch, tmp_path, number):
    later, partial = interrupt_often(start_training, tmp_path, number, seed=int(number))
    assert later >= 15
    assert partial >= 3 or number == signal.SIGTERM
    done = launch("train", tmp_path, overrides=OPTIONS)
    assert done.returncode == 0, done.stderr
    assert record(tmp_path) == never_stopped
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))
