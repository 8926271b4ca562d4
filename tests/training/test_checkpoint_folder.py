"""Damaged checkpoints are set aside and never deleted, sound ones left alone; amending a step."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from vdm.errors import CheckpointError
from vdm.runtime import devices
from vdm.runtime.hashes import sealed
from vdm.runtime.processes import ElsewhereError
from vdm.training import checkpoint
from vdm.training.checkpoint import Checkpoints
from vdm.training.checkpoint_folder import Folder
from vdm.training.state import TrainState

RECORD = {"config": {"seed": 0}, "evaluated": False}
METRIC = "validation_bits_per_dim"


def make_state(step=0, optimizer=None):
    params = {"denoiser": {"kernel": jnp.full((4, 3), float(step))}, "schedule": {}}
    optimizer = optimizer or optax.adam(1e-3)
    return TrainState(jnp.int32(step), params, None, optimizer.init(params)), params


def save(checkpoints, *steps, scores=()):
    scores = dict(zip(steps, scores, strict=False))
    for step in steps:
        metrics = {METRIC: scores[step]} if step in scores else None
        checkpoints.save(step, *make_state(step), RECORD, metrics)


def restore(checkpoints, optimizer=None):
    mesh = devices.make_mesh()
    trees = [devices.abstract_like(t, devices.replicated(mesh)) for t in make_state(0, optimizer)]
    return checkpoints.restore(*trees)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def orbax_steps(checkpoints):
    """The steps that Orbax itself sees."""
    return sorted(ocp.utils.checkpoint_steps(checkpoints.directory))


def damage(checkpoints, step):
    path = checkpoints.directory / str(step) / "record" / "metadata"
    path.write_text("{")


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def open_folder(tmp_path, warnings):
    opened = []

    def open_it(**options):
        opened.append(Checkpoints(tmp_path / "checkpoints", warn=warnings.append, **options))
        return opened[-1]

    yield open_it
    for checkpoints in opened:
        checkpoints.close()


@pytest.fixture
def checkpoints(open_folder):
    return open_folder()


def test_a_damaged_step_is_set_aside_with_all_its_files(checkpoints, open_folder, warnings):
    """Out of Orbax's list and of the retention, and still there after many saves."""
    save(checkpoints, 1, 2, 3)
    damage(checkpoints, 3)
    before = contents(checkpoints.directory / "3")
    assert restore(checkpoints)[0] == 2
    aside = checkpoints.directory / "damaged-3"
    (line,) = warnings
    assert f"it was put into {aside}" in line and "going on with step 2" in line
    assert checkpoints.steps() == orbax_steps(checkpoints) == [1, 2]
    save(checkpoints, 3, 4, 5)
    assert checkpoints.steps() == [3, 4, 5] and contents(aside) == before
    again = open_folder()
    assert orbax_steps(again) == [3, 4, 5] and restore(again)[0] == 5


def test_nothing_set_aside_is_overwritten(checkpoints):
    save(checkpoints, 1, 2)
    for number in range(3):
        (checkpoints.directory / "2" / "mark").write_text(str(number))
        damage(checkpoints, 2)
        assert restore(checkpoints)[0] == 1
        save(checkpoints, 2)
    names = ("damaged-2", "damaged-2-2", "damaged-2-3")
    marks = [(checkpoints.directory / name / "mark").read_text() for name in names]
    assert marks == ["0", "1", "2"]


def test_where_all_are_damaged_nothing_is_moved(checkpoints):
    """Or the next start would train from scratch without a word."""
    save(checkpoints, 1, 2)
    damage(checkpoints, 1)
    damage(checkpoints, 2)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="none can be trusted"):
            restore(checkpoints)
    assert checkpoints.steps() == [1, 2]


def test_a_reader_moves_nothing(checkpoints, open_folder, warnings):
    save(checkpoints, 1, 2)
    damage(checkpoints, 2)
    before = contents(checkpoints.directory)
    assert restore(open_folder(read_only=True))[0] == 1
    assert contents(checkpoints.directory) == before
    assert len(warnings) == 1 and "put into" not in warnings[0]


OUT_OF_MEMORY = [
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Failed to allocate 9 GiB"),
    jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    ValueError("RESOURCE_EXHAUSTED: Too many open files"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_memory_that_ran_out_is_no_damage(checkpoints, warnings, error):
    save(checkpoints, 1, 2)

    def read(step):
        raise RuntimeError(f"reading {step} failed") from error

    folder = Folder(checkpoints.directory, False, warnings.append)
    with pytest.raises(CheckpointError, match=r"checkpoints/2: memory.* ran out .*not taken for"):
        folder.first_good(None, read)
    assert warnings == [] and folder.steps() == [1, 2]


def test_another_optimizer_is_named_as_such(checkpoints):
    save(checkpoints, 1)
    with pytest.raises(
        CheckpointError, match=r"the model is the same.*optimizer's state"
    ) as raised:
        restore(checkpoints, optax.sgd(1e-3, momentum=0.9))
    assert "another model" not in str(raised.value) and checkpoints.steps() == [1]


def make_earlier(checkpoints, step, content=None):
    """Give a step the files of an earlier revision: its metric in a file without a hash."""
    folder = checkpoints.directory / str(step)
    path = folder / "record" / "metadata"
    record = json.loads(path.read_text())["content"]
    metrics = record.pop("metrics")
    path.write_text(json.dumps(sealed(record)))
    (folder / "metrics").mkdir()
    (folder / "metrics" / "metrics").write_text(content or json.dumps(metrics))
    return folder / "metrics" / "metrics"


@pytest.mark.parametrize("content", ["{", '{"validation_bits_per_dim": null}'])
def test_damaged_metrics_of_an_earlier_revision(checkpoints, open_folder, warnings, content):
    """Named; the step counts as not validated; the folder opens, saves and keeps as before."""
    save(checkpoints, 1, 2, 3, scores=(1.0, 2.0, 3.0))
    path = make_earlier(checkpoints, 1, content)
    before = contents(checkpoints.directory)
    reader = open_folder(read_only=True)
    assert reader.best_step() == 2 and restore(reader)[0] == 3
    assert contents(checkpoints.directory) == before
    (line,) = warnings
    assert line.startswith("WARNING") and str(path) in line and "step 1" in line
    writer = open_folder()
    assert restore(writer)[0] == 3 and writer.best_step() == 2
    save(writer, 4, 5)
    assert writer.steps() == [2, 3, 4, 5]  # 1 is no longer kept as the best


def test_metrics_of_an_earlier_revision_are_read_with_one_line(checkpoints, open_folder, warnings):
    """And come under the hash of the record once that is written again."""
    save(checkpoints, 1, 2, 3, scores=(1.0, 2.0, 3.0))
    paths = [make_earlier(checkpoints, step) for step in (1, 2, 3)]
    writer = open_folder()
    assert writer.best_step() == 1 and writer.metric(3) == 3.0
    (line,) = warnings
    assert str(paths[0]) in line and "WARNING" not in line
    save(writer, 4)
    assert writer.steps() == [1, 2, 3, 4]
    writer.amend(3, {"evaluated": True})
    paths[2].write_text('{"validation_bits_per_dim": 0.5}')
    assert writer.metric(3) == 3.0


def test_amending_a_step(checkpoints, open_folder):
    """Its metric counts for the best from then on, its record is whole, its arrays are as before."""
    save(checkpoints, 1, 2, scores=(2.0,))
    arrays = contents(checkpoints.directory / "2" / "state")
    checkpoints.amend(2, {"evaluated": True}, {METRIC: 1.0})
    assert checkpoints.read_record(2) == (2, {**RECORD, "evaluated": True})
    assert checkpoints.best_step() == 2 and restore(checkpoints)[0] == 2
    assert contents(checkpoints.directory / "2" / "state") == arrays
    save(checkpoints, 3, 4, 5)
    assert checkpoints.steps() == [2, 3, 4, 5]
    assert restore(open_folder())[0] == 5
    checkpoints.amend(5, {"evaluated": True})
    assert checkpoints.best_step() == 2 and checkpoints.metric(5) is None


def test_amending_replaces_the_record_whole(checkpoints, monkeypatch):
    """A kill leaves the record as it was, or the new one with its metric."""
    save(checkpoints, 1)
    before = contents(checkpoints.directory / "1")
    replace = os.replace

    def killed(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.amend(1, {"evaluated": True}, {METRIC: 1.0})
    monkeypatch.setattr(os, "replace", replace)
    assert contents(checkpoints.directory / "1") == before
    assert checkpoints.read_record(1)[1] == RECORD and checkpoints.metric(1) is None
    np.testing.assert_array_equal(restore(checkpoints)[2]["denoiser"]["kernel"], np.ones((4, 3)))


@pytest.mark.parametrize("failing", [0, 1])
def test_a_step_that_another_process_cannot_read_is_passed_over(checkpoints, monkeypatch, failing):
    """Its record, or an array's hash, there alone: otherwise the two would train on from two steps."""
    save(checkpoints, 1, 2)
    calls = []

    def together(work):
        calls.append(work())
        if len(calls) == failing + 1:
            raise ElsewhereError(1, 1)
        return calls[-1]

    monkeypatch.setattr(checkpoint, "together", together)
    assert restore(checkpoints)[0] == 1
