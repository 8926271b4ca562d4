"""Checkpoints: exact round trips, retention, and every kind of damage found and passed over."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import CheckpointError, DiskError, NonFiniteError
from vdm.runtime import devices
from vdm.training.checkpoint import Checkpoints

RECORD = {
    "config": {"model": {"name": "a", "channels": (1, 2)}, "seed": 0},
    "window": ({"x": 0.1},),
}


def make_trees(step: int):
    rng = np.random.default_rng(step)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    params = {"denoiser": {"kernel": draw(64, 64), "bias": draw(64)}, "schedule": {}}
    state = {"step": jnp.int32(step), "params": params, "moments": (draw(64, 64), ())}
    return state, {"denoiser": {"kernel": draw(64, 64)}, "schedule": {"gamma_0": draw()}}


def abstract(tree):
    return devices.abstract_like(tree, devices.replicated(devices.make_mesh()))


def save(checkpoints, *steps, scores=()):
    scores = dict(zip(steps, scores, strict=False))
    for step in steps:
        metrics = {"validation_bits_per_dim": scores[step]} if step in scores else None
        checkpoints.save(step, *make_trees(step), RECORD, metrics)


def restore(checkpoints, step=None):
    return checkpoints.restore(*(abstract(tree) for tree in make_trees(0)), step)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert jax.tree.structure(found) == jax.tree.structure(expected)


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def checkpoints(tmp_path, warnings):
    opened = Checkpoints(tmp_path / "checkpoints", warn=warnings.append)
    yield opened
    opened.close()


def flip_a_bit(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def test_round_trip_is_exact(checkpoints, warnings):
    save(checkpoints, 3)
    state, ema = make_trees(3)
    step, found_state, found_ema = restore(checkpoints)
    assert step == 3 and warnings == []
    assert_same(found_state, state)
    assert_same(found_ema, ema)
    assert_same(checkpoints.restore_ema(abstract(ema))[1], ema)
    assert checkpoints.read_record() == (3, RECORD)


def test_retention_keeps_the_newest_and_the_best(checkpoints):
    """Also after the folder is opened anew in between."""
    save(checkpoints, 1, 2, 3, scores=(2.0, 1.0, 3.0))
    checkpoints.close()
    checkpoints = Checkpoints(checkpoints.directory)
    save(checkpoints, 4, 5, 6, 7)
    assert checkpoints.steps() == [2, 5, 6, 7]
    assert checkpoints.best_step() == 2 and checkpoints.latest_step() == 7


def test_without_a_metric_nothing_is_best(checkpoints):
    save(checkpoints, 1, 2)
    assert checkpoints.best_step() is None


@pytest.mark.parametrize("trial", range(20))
def test_one_flipped_bit_in_the_arrays_is_found(checkpoints, warnings, trial):
    save(checkpoints, 1, 2)
    rng = np.random.default_rng(trial)
    # The small files beside them are an index that Orbax has merged into another and never reads.
    files = [p for p in (checkpoints.directory / "2").rglob("d/*") if p.stat().st_size > 10_000]
    flip_a_bit(sorted(files)[rng.integers(len(files))], rng)
    step, state, ema = restore(checkpoints)
    assert step == 1 and len(warnings) == 1
    assert "WARNING" in warnings[0] and str(checkpoints.directory / "2") in warnings[0]
    assert_same((state, ema), make_trees(1))


def test_a_flipped_bit_in_any_file_never_gives_wrong_values(checkpoints, warnings):
    save(checkpoints, 1, 2)
    rng = np.random.default_rng(0)
    for path in sorted(p for p in (checkpoints.directory / "2").rglob("*") if p.is_file()):
        content = path.read_bytes()
        if content:
            flip_a_bit(path, rng)
            step, state, ema = restore(checkpoints)
            assert_same((state, ema), make_trees(step))
            if (checkpoints.directory / "damaged-2").exists():
                (checkpoints.directory / "damaged-2").rename(checkpoints.directory / "2")
            path.write_bytes(content)
    assert len(warnings) >= 5


def truncate(folder):
    path = max((folder / "state").rglob("d/*"), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:1000])


DAMAGE = {
    "truncated array": truncate,
    "no state": lambda folder: shutil.rmtree(folder / "state"),
    "no record": lambda folder: shutil.rmtree(folder / "record"),
    "bad JSON": lambda folder: (folder / "record" / "metadata").write_text("{"),
    "other JSON": lambda folder: (folder / "record" / "metadata").write_text("[]"),
    "empty folder": lambda folder: [shutil.rmtree(p) for p in folder.iterdir() if p.is_dir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_falls_back_and_is_cleared_by_the_next_save(checkpoints, warnings, damage):
    save(checkpoints, 1, 2)
    damage(checkpoints.directory / "2")
    assert restore(checkpoints)[0] == 1 and len(warnings) == 1
    save(checkpoints, 2)
    step, state, _ = restore(checkpoints)
    assert step == 2
    assert_same(state, make_trees(2)[0])


def test_all_damaged_is_an_error_with_each_reason(checkpoints):
    save(checkpoints, 1, 2)
    for step in (1, 2):
        truncate(checkpoints.directory / str(step))
    with pytest.raises(CheckpointError, match=r"none can be trusted.*step 2: .*step 1: "):
        restore(checkpoints)


def test_no_checkpoint_and_no_such_step(checkpoints):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        restore(checkpoints)
    save(checkpoints, 1)
    with pytest.raises(CheckpointError, match=r"step=5: .* has no such step \(1\)"):
        restore(checkpoints, 5)


def test_a_named_damaged_step_has_no_substitute(checkpoints):
    save(checkpoints, 1, 2)
    truncate(checkpoints.directory / "2")
    with pytest.raises(CheckpointError, match="step 2"):
        restore(checkpoints, 2)


@pytest.mark.parametrize("kind", ["shape", "dtype", "missing"])
def test_another_model_is_refused(checkpoints, warnings, kind):
    save(checkpoints, 1)
    state, ema = make_trees(0)
    if kind == "shape":
        ema["denoiser"]["kernel"] = jnp.zeros((64, 32))
    elif kind == "dtype":
        ema["denoiser"]["kernel"] = jnp.zeros((64, 64), jnp.float16)
    else:
        ema["denoiser"]["bias"] = jnp.zeros((64,))
    with pytest.raises(CheckpointError, match=r"denoiser.*another model"):
        checkpoints.restore(abstract(state), abstract(ema))
    assert warnings == [] and checkpoints.steps() == [1]


def test_not_finite_is_never_saved(checkpoints):
    save(checkpoints, 1)
    state, ema = make_trees(2)
    ema["denoiser"]["kernel"] = ema["denoiser"]["kernel"].at[3, 3].set(jnp.nan)
    with pytest.raises(NonFiniteError, match="kernel"):
        checkpoints.save(2, state, ema, RECORD)
    assert checkpoints.steps() == [1]


def test_partial_saves_are_ignored_and_then_removed(checkpoints):
    save(checkpoints, 1)
    partial = checkpoints.directory / "2.orbax-checkpoint-tmp"
    shutil.copytree(checkpoints.directory / "1", partial)
    assert checkpoints.steps() == [1]
    assert restore(checkpoints)[0] == 1 and partial.exists()
    save(checkpoints, 2)
    assert not partial.exists() and checkpoints.steps() == [1, 2]


def test_read_only_changes_nothing(checkpoints):
    save(checkpoints, 1)
    before = sorted(p for p in checkpoints.directory.rglob("*"))
    reader = Checkpoints(checkpoints.directory, read_only=True)
    assert restore(reader)[0] == 1
    assert sorted(p for p in checkpoints.directory.rglob("*")) == before


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="file"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_records_are_json(checkpoints):
    save(checkpoints, 1)
    path = checkpoints.directory / "1" / "record" / "metadata"
    record = json.loads(path.read_text())["content"]
    assert record["config"]["model"]["channels"] == [1, 2]
    assert len(record["arrays"]["ema"]["['schedule']['gamma_0']"]["sha256"]) == 64
