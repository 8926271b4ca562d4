"""Faults that a whole run meets: signals, NaN, damage, other data, other devices, the same seed."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from experiments.sessions import training
from vdm import runs
from vdm.errors import CheckpointError, DataError, NonFiniteError, Preempted
from vdm.runs import parts as run_parts
from vdm.runs import record
from vdm.training.writers import read_json_lines

pytestmark = pytest.mark.slow

STEPS = {"num_steps": 6, "save_every_steps": 1, "evaluate_every_steps": 0, "num_samples": 0}
STEPS |= {"sample_every_steps": 0}
"""With 12 images of training in batches of 8, an epoch ends within the second batch."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A .npz whose training split has 12 images."""
    path = tmp_path_factory.mktemp("images") / "images.npz"
    draw = np.random.default_rng(0)
    sizes = {"train": 12, "validation": 8, "test": 8}
    np.savez(path, **{s: draw.integers(0, 4, (n, 4, 4, 1), np.uint8) for s, n in sizes.items()})
    return path


@pytest.fixture(scope="module")
def parts(make_parts, images):
    return make_parts(data=of(images), **STEPS)


def of(path):
    return {"name": "arrays", "arrays": {"path": str(path), "num_levels": 4}}


@pytest.fixture(scope="module")
def unbroken(parts, tmp_path_factory):
    """A finished run with a checkpoint of every step; not to be changed."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    training.run(parts, folder)
    return folder


@pytest.fixture
def run(unbroken, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(unbroken, tmp_path / "run")


def result(folder, step=STEPS["num_steps"]):
    """Hashes of the arrays of a step, and every logged number that no clock changes."""
    path = folder / "checkpoints" / str(step) / "record" / "metadata"
    lines = read_json_lines(folder / "metrics.jsonl")
    numbers = [{n: line[n] for n in ("step", "bits_per_dim") if n in line} for line in lines]
    return json.loads(path.read_text())["content"]["arrays"], numbers


def terminate(*args):
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_before_the_first_step_saves_nothing(parts, unbroken, tmp_path, monkeypatch):
    """Fault: SIGTERM while the first step is compiled. Run again, it equals a fresh run."""

    def train_step(self):
        terminate()
        return made(self)

    made = run_parts.Parts.train_step
    with monkeypatch.context() as patched:
        patched.setattr(run_parts.Parts, "train_step", train_step)
        with pytest.raises(Preempted, match="nothing to save yet"):
            training.run(parts, tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    training.run(parts, tmp_path)
    assert result(tmp_path) == result(unbroken)


def test_a_signal_in_the_final_evaluation_leaves_no_number(run, parts, monkeypatch):
    """Fault: SIGTERM after its first batch of several. Run again: the number of the unbroken run."""
    before = {path.name: path.read_bytes() for path in (run / "evaluations").glob("*.npz")}
    shutil.rmtree(run / "evaluations")
    batches = []

    def progress(bar, check):
        def stop_after_one(done, total):
            batches.append(done)
            terminate()
            check()

        return stop_after_one

    with monkeypatch.context() as patched:
        patched.setattr(record, "evaluation_progress", progress)
        with pytest.raises(Preempted, match="SIGTERM"):
            training.run(parts, run)
    assert len(batches) == 1 and not list((run / "evaluations").glob("*"))
    training.run(parts, run)
    assert {p.name: p.read_bytes() for p in (run / "evaluations").glob("*.npz")} == before


@pytest.mark.parametrize("step", range(1, STEPS["num_steps"]))
def test_resumed_at_every_step_it_sees_the_same_images(run, parts, unbroken, step, monkeypatch):
    """Fault: a stop at each step of an epoch and at its end. Batches, losses and state are the same."""
    for later in range(step + 1, STEPS["num_steps"] + 1):
        shutil.rmtree(run / "checkpoints" / str(later))
    drawn = {}
    real = run_parts.train_batch

    def train_batch(dataset, seed, number, *args):
        batch = real(dataset, seed, number, *args)
        drawn[number] = batch.index.tolist()
        return batch

    monkeypatch.setattr(run_parts, "train_batch", train_batch)
    training.run(parts, run)
    assert result(run) == result(unbroken) and sorted(drawn) == list(range(step, 6))
    batches = [real(parts.dataset, 0, n, 8).index.tolist() for n in range(6)]
    assert batches[step:] == [drawn[n] for n in sorted(drawn)]
    epochs = np.reshape(batches, (4, 12))
    assert (np.sort(epochs) == np.arange(12)).all() and (epochs[0] != epochs[1]).any()


def test_the_same_seed_twice(parts, unbroken, tmp_path):
    """Bit for bit, and so are all logged numbers."""
    training.run(parts, tmp_path)
    assert result(tmp_path) == result(unbroken)
    (one,), (other,) = ((f / "evaluations").glob("*.npz") for f in (tmp_path, unbroken))
    assert one.read_bytes() == other.read_bytes()


def test_every_checkpoint_bad_is_named_with_its_reason(run, parts):
    """Fault: flipped bits in the arrays of every step. Exit code 5, nothing renamed or trained."""
    for step in (run / "checkpoints").iterdir():
        path = max((step / "state").rglob("d/*"), key=lambda p: p.stat().st_size)
        # In every fiftieth byte: not all bytes are read.
        content = np.frombuffer(path.read_bytes(), np.uint8).copy()
        content[::50] ^= 1
        path.write_bytes(content.tobytes())
    before = sorted(p.name for p in (run / "checkpoints").iterdir())
    log = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError) as refused:
        training.run(parts, run)
    reasons = str(refused.value)
    assert refused.value.exit_code == 5 and all(f"step {s}: " in reasons for s in before)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == before
    assert (run / "metrics.jsonl").read_bytes() == log


def test_a_state_that_is_not_finite_is_not_saved(parts, tmp_path, monkeypatch):
    """Fault: NaN in the averages, which no loss shows. Exit code 4, no checkpoint."""

    def poisoned(self):
        state = fresh(self)
        return state.replace(ema_params=jax.tree.map(lambda a: a * np.nan, state.ema_params))

    fresh = run_parts.Parts.fresh_state
    monkeypatch.setattr(run_parts.Parts, "fresh_state", poisoned)
    with pytest.raises(NonFiniteError, match="not finite"):
        training.run(parts, tmp_path)
    assert not any(p.name.isdigit() for p in (tmp_path / "checkpoints").iterdir())


CHANGES = {
    "one bit of one pixel": lambda arrays: arrays["train"].__setitem__((0, 0, 0, 0), 3),
    "one image less": lambda arrays: arrays.update(train=arrays["train"][1:]),
    "another split": lambda arrays: arrays.update(
        train=np.concatenate([arrays["train"][1:], arrays["test"][:1]])
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_under_the_same_name_are_refused(run, make_parts, images, tmp_path, change):
    """Fault: the file that the configuration names holds other images now. Exit code 3."""
    arrays = dict(np.load(images))
    arrays["train"][0, 0, 0, 0] = 0
    CHANGES[change](arrays)
    whole = images.read_bytes()
    try:
        np.savez(images, **arrays)
        with pytest.raises(
            DataError, match=r"not what this folder was trained on.*hash"
        ) as refused:
            training.run(make_parts(data=of(images), **STEPS), run)
    finally:
        images.write_bytes(whole)
    assert refused.value.exit_code == 3 and result(run)


def test_a_work_folder_is_read_as_data_alone(run, tmp_path):
    """Fault: code in config.json and beside it. It is not run."""
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    for name in ("config.py", "__init__.py", "vdm.py", "sitecustomize.py"):
        (run / name).write_text(code)
    assert runs.open(run).steps == [1, 2, 3, 4, 5, 6]
    (run / "config.json").write_text(code)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        runs.open(run)
    assert not (tmp_path / "ran").exists()


def test_other_numbers_of_devices_go_on_from_one_state(launch, tmp_path):
    """Fault: 8 devices become 4, then 1, then 8. Hashes hold, losses agree to rounding."""
    fields = {"optimizer.decay": "constant", "optimizer.eps": 1e-3, "train.num_samples": 0}
    fields |= {"train.log_every_steps": 1, "train.evaluate_every_steps": 0}
    allow, moved, fixed = "--allow_change=train.num_steps", tmp_path / "moved", tmp_path / "fixed"
    for n, devices in enumerate((8, 4, 1, 8), start=1):
        overrides = {**fields, "train.num_steps": 3 * n}
        done = launch("train", moved, allow, devices=devices, overrides=overrides)
        assert done.returncode == 0 and "damaged" not in done.stderr, done.stderr
        assert n == 1 or f"at step {3 * n - 3}" in done.stdout
    assert launch("train", fixed, overrides={**fields, "train.num_steps": 12}).returncode == 0
    losses = [
        [r["bits_per_dim"] for r in read_json_lines(f / "metrics.jsonl") if "bits_per_dim" in r]
        for f in (moved, fixed)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[1]) == 12
