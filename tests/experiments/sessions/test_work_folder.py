"""Whose folder it is: what may change on resuming, and a run that came in between."""

import json
import os
import shutil

import pytest

from experiments.sessions import training
from vdm.errors import ConfigError
from vdm.runs import folder as workdir

DATA = {"name": "digits"}


@pytest.mark.parametrize("field", ["train.batch_size", "evaluate.seed", "evaluate.num_timesteps"])
def test_what_may_not_change_is_neither_taken_nor_offered(field):
    """Other images per step; validations that would not compare with those before."""
    with pytest.raises(ConfigError, match=rf"^allow_change={field}: "):
        workdir.check_changeable(["train.num_steps", field])
    group, name = field.split(".")
    before, now = {group: {name: 16}}, {group: {name: 32}}
    with pytest.raises(ConfigError, match=f"{field} 16 -> 32") as refused:
        workdir.check_resumable({"config": before, "data": DATA}, now, DATA, [])
    assert "allow_change" not in str(refused.value)


def test_what_may_change():
    names = ["train.num_steps", "optimizer.learning_rate", "evaluate.split", "data.cache_dir"]
    workdir.check_changeable(names)


def test_a_change_that_was_once_allowed_stays_readable():
    """A folder from when the batch size could change is resumed as it is."""
    config = {"train": {"batch_size": 32}}
    changed = workdir.check_resumable(
        {"config": config, "data": DATA}, config, DATA, ["train.batch_size"]
    )
    assert changed == {}


def test_a_field_that_a_run_is_too_old_for_had_its_default():
    """A folder from before `train.num_microbatches`, which is 1 by default, is resumed as it is."""
    saved = {"config": {"train": {"num_steps": 8}}, "data": DATA}
    now = {"train": {"num_steps": 8, "num_microbatches": 1}}
    assert workdir.check_resumable(saved, now, DATA, []) == {}
    now["train"]["num_microbatches"] = 2
    with pytest.raises(ConfigError, match=r"train\.num_microbatches 1 -> 2"):
        workdir.check_resumable(saved, now, DATA, [])


def test_another_run_that_started_before_the_lock(make_parts, tmp_path, monkeypatch):
    """It has saved nothing yet, but the folder is its own: only config.json tells."""
    other = make_parts(num_steps=1, evaluate_every_steps=0, num_samples=0)
    locked = workdir.locked

    def locked_after_the_other(folder):
        monkeypatch.setattr(training, "locked", locked)
        training.run(other, folder)
        shutil.rmtree(folder / "checkpoints")
        return locked(folder)

    monkeypatch.setattr(training, "locked", locked_after_the_other)
    with pytest.raises(ConfigError, match=r"another run: .*train.num_steps 1 -> 7"):
        training.run(make_parts(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["config"]["train"]["num_steps"] == 1


OBSTACLES = {
    "checkpoints": lambda folder: (folder / "checkpoints").write_text(""),
    "metrics.jsonl": lambda folder: (folder / "metrics.jsonl").mkdir(),
    "config.json": lambda folder: (folder / "config.json").mkdir(),
    "tensorboard": lambda folder: (folder / "tensorboard").write_text(""),
}


@pytest.mark.slow
def test_what_cannot_be_written_is_refused_before_step_1(launch, tmp_path):
    """Fault: a file where a folder will be, a folder where a file will be, a name that is no UTF-8."""
    folders = {name: tmp_path / str(number) for number, name in enumerate(OBSTACLES)}
    for name, folder in folders.items():
        folder.mkdir()
        OBSTACLES[name](folder)
    folders["UTF-8"] = tmp_path / os.fsdecode(b"caf\xe9")
    for name, folder in folders.items():
        before = sorted(folder.rglob("*"))
        done = launch("train", folder, overrides={"train.writers": "json_lines,tensorboard"})
        assert done.returncode == 2, (name, done.stderr)
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: --workdir=") and name in line, line
        # Not even the header: nothing was prepared or compiled.
        assert done.stdout == "" and sorted(folder.rglob("*")) == before
