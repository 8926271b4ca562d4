"""A gradient that is not finite: its update is skipped on all devices alike, counted and reported.

The fault is injected where the run cannot know of it: the noise of chosen training images becomes nan
as the step reads it, on the one device that holds the image.
"""

import json
import os
import socket

import numpy as np
import pytest

from tests.experiments.conftest import train_words
from tests.forking import Forked
from vdm.data.batches import train_indices

BATCH_SIZE, NUM_STEPS, NUM_IMAGES = 16, 8, 1400
OPTIONS = {
    "train.num_steps": NUM_STEPS,
    "train.batch_size": BATCH_SIZE,
    "train.log_every_steps": 4,
    "train.evaluate_every_steps": 0,
    "train.save_every_steps": 1,
    "train.keep_latest": NUM_STEPS,
    "train.num_samples": 0,
    "train.writers": "json_lines",
    "objective.times": "adaptive",  # so that the model has a state of its own
    "optimizer.warmup_steps": 1,
}
POISONED_TRAINING = """
import os, runpy, sys
import jax.numpy as jnp
import numpy as np
from vdm.runs import parts

sharded_gradient = parts.sharded_gradient
poisoned = np.array([int(word) for word in os.environ["POISONED"].split()], np.int32)

def faulty(gradient_fn, mesh, params):
    def gradient(params, state, batch, noise, key):
        hit = jnp.isin(batch.index, poisoned)[:, None, None, None]
        noise = noise.replace(eps=jnp.where(hit, jnp.nan, noise.eps))
        return gradient_fn(params, state, batch, noise, key)
    return sharded_gradient(gradient, mesh, params)

parts.sharded_gradient = faulty
sys.argv[0] = "experiments.train"
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
"""


def images_of(step):
    """Positions of the images of training step `step`, numbered from 1, with the default seed."""
    return train_indices(0, step - 1, BATCH_SIZE, NUM_IMAGES)


def hashes(workdir, step):
    """SHA-256 of every array of a checkpoint, by item and path, without the step's number."""
    record = json.loads((workdir / "checkpoints" / str(step) / "record/metadata").read_text())
    items = record["content"]["arrays"].items()
    return {
        f"{item}{path}": v for item, tree in items for path, v in tree.items() if path != ".step"
    }


def changed(workdir, step):
    """Names of the saved arrays that the update of `step` changed."""
    before, after = hashes(workdir, step - 1), hashes(workdir, step)
    return {name for name in after if after[name] != before[name]}


def lines_of(path):
    """Records of a file of JSON lines; a constant that is no JSON, such as NaN, fails."""
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


@pytest.fixture
def train(data_dir, repository):
    """`train(workdir, poisoned, *flags, ...)` -> a running training with those images poisoned."""
    started = []

    def start(workdir, poisoned, *flags, devices=1, overrides=None):
        words = train_words(workdir, OPTIONS | (overrides or {}))[2:]
        env = {
            **os.environ,
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
            "VDM_DATA_DIR": str(data_dir),
            "PYTHONPATH": str(repository),
            "POISONED": " ".join(map(str, poisoned)),
        }
        started.append(Forked(["-c", POISONED_TRAINING, *words, *flags], env, repository))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.mark.slow
def test_nan_on_one_device_of_eight_skips_one_update(train, tmp_path):
    bad = images_of(4)[11]
    process = train(tmp_path, [bad], devices=8)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, output + errors
    # Parameters, averages, moments and the density of times are bit-equal; the next step moves all.
    assert not changed(tmp_path, 4)
    moved = changed(tmp_path, 5)
    for name in ("state.params", "ema[", "state.opt_state", "state.time_density"):
        assert any(name in path for path in moved), (name, moved)
    (report,) = lines_of(tmp_path / "skipped_steps.jsonl")
    assert report["step"] == 4 and report["images"] == images_of(4).tolist()
    assert report["metrics"]["grad_norm/denoiser"] == "nan"
    assert report["metrics"]["gamma_1"] == pytest.approx(5, abs=0.1)
    assert [line for line in errors.splitlines() if "step 4" in line and "grad_norm" in line]
    logged = [line for line in lines_of(tmp_path / "metrics.jsonl") if "bits_per_dim" in line]
    assert [line["skipped_steps"] for line in logged] == [1, 0]


@pytest.mark.slow
def test_nan_in_every_step_ends_the_run_with_a_finite_checkpoint(train, tmp_path):
    """Five in a row by default, counted over a restart that lies between them."""
    bad = np.concatenate([images_of(step) for step in range(4, NUM_STEPS + 1)])
    first = train(tmp_path, bad, overrides={"train.num_steps": 6})
    output, errors = first.communicate(timeout=200)
    assert first.returncode == 0, output + errors
    assert not changed(tmp_path, 6) and changed(tmp_path, 3)
    again = train(tmp_path, bad, "--allow_change=train.num_steps")
    output, errors = again.communicate(timeout=200)
    assert again.returncode == 4, output + errors
    last = errors.splitlines()[-1]
    shown = ", ".join(map(str, images_of(8)[:8]))
    for fact in ("step 8", "prior_matching=", "gamma ranges over", shown, "checkpoint 7"):
        assert fact in last, last
    steps = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert max(steps) == 7 and not changed(tmp_path, 7)
    # The same command repeats the same steps; with other data, here none poisoned, the run goes on.
    process = train(tmp_path, [])
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, output + errors


@pytest.mark.slow
def test_nan_on_one_process_of_two_skips_the_update_of_both(train, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--distributed", f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    bad = [images_of(4)[11]]  # of the second half, which process 1 holds
    ranks = [train(tmp_path, bad, *place, f"--process_id={n}") for n in (0, 1)]
    for rank in ranks:
        output, errors = rank.communicate(timeout=200)
        assert rank.returncode == 0, output + errors
    assert not changed(tmp_path, 4) and changed(tmp_path, 5)
    assert len(lines_of(tmp_path / "skipped_steps.jsonl")) == 1
