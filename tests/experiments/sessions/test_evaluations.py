"""A stored number is shown only as long as it is that of this checkpoint, configuration and data."""

import json
import shutil

import numpy as np
import pytest

from experiments.cli.parsing import load_config
from experiments.sessions import training
from experiments.studies import schedules_summary
from experiments.sweeps import grid, runner
from vdm.errors import CheckpointError
from vdm.runs import config_identity, evaluations
from vdm.runs.defaults import default_config

STEPS = {"num_steps": 4, "evaluate_every_steps": 0, "sample_every_steps": 0, "num_samples": 0}
STEPS |= {"save_every_steps": 2}


@pytest.fixture(scope="module")
def trained(make_parts, tmp_path_factory):
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    training.run(make_parts(**STEPS), folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(trained, tmp_path / "run")


def record_of(folder):
    (path,) = (p for p in (folder / "evaluations").glob("test-*.json"))
    return path


def total(path):
    return json.loads(path.read_text())["bits_per_dim"]["total"]["mean"]


def test_numbers_of_a_removed_run_are_no_reason_to_start_afresh(run, make_parts):
    """The recipe: another seed in a folder whose checkpoints and config.json were removed."""
    before = record_of(run).read_bytes(), (run / "metrics.jsonl").read_bytes()
    shutil.rmtree(run / "checkpoints")
    (run / "config.json").unlink()
    parts = make_parts(**STEPS)
    other = type(parts)({**parts.config, "seed": 5}, parts.dataset, parts.model, parts.mesh)
    with pytest.raises(CheckpointError, match=r"config\.json is missing and .*checkpoints"):
        training.run(other, run)
    assert before == (record_of(run).read_bytes(), (run / "metrics.jsonl").read_bytes())
    assert not (run / "checkpoints").exists() and not (run / "config.json").exists()


TRACES = {
    "only config.json tells": lambda run: [
        shutil.rmtree(run / "evaluations"),
        (run / "metrics.jsonl").unlink(),
    ],
    "only evaluations tell": lambda run: [
        (run / "config.json").unlink(),
        (run / "metrics.jsonl").unlink(),
    ],
    "only metrics tell": lambda run: [
        (run / "config.json").unlink(),
        shutil.rmtree(run / "evaluations"),
    ],
}


@pytest.mark.parametrize("trace", TRACES)
def test_missing_checkpoints_are_named(run, make_parts, trace):
    shutil.rmtree(run / "checkpoints")
    TRACES[trace](run)
    with pytest.raises(CheckpointError, match=r"checkpoints is missing"):
        training.run(make_parts(**STEPS), run)


def test_a_run_killed_before_its_first_save_starts_afresh(trained, make_parts, tmp_path):
    """It has a config.json and a log, and never had a checkpoint."""
    run = tmp_path / "killed"
    run.mkdir()
    identity = json.loads((trained / "config.json").read_text())
    del identity["has_checkpoints"]
    (run / "config.json").write_text(json.dumps(identity))
    first = (trained / "metrics.jsonl").read_text().splitlines(keepends=True)[:2]
    (run / "metrics.jsonl").write_text("".join(first))
    training.run(make_parts(**STEPS), run)
    assert total(record_of(run)) == total(record_of(trained))


def test_another_checkpoint_of_the_same_step_is_evaluated_anew(run, make_parts):
    """The recipe: a flipped bit in the newest state, and another learning rate from the older one."""
    old = total(record_of(run))
    newest = max((run / "checkpoints" / "4" / "state").rglob("d/*"), key=lambda p: p.stat().st_size)
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    parts = make_parts(**STEPS)
    config = {**parts.config, "optimizer": {**parts.config["optimizer"], "learning_rate": 0.1}}
    changed = type(parts)(config, parts.dataset, parts.model, parts.mesh)
    training.run(changed, run, ["optimizer.learning_rate"])
    assert total(record_of(run)) != old
    (aside,) = (run / "evaluations").glob("stale-*.json")
    assert total(aside) == old and aside.with_suffix(".npz").exists()


def edit_number(path):
    facts = json.loads(path.read_text())
    facts["bits_per_dim"]["total"]["mean"] = 0.1
    path.write_text(json.dumps(facts))


def remove_seal(path):
    facts = json.loads(path.read_text())
    del facts[evaluations.SEAL]
    path.write_text(json.dumps(facts))


EDITS = {
    "number": (edit_number, "damaged"),
    "no record": (lambda path: path.write_text("{}"), "damaged"),
    "no JSON": (lambda path: path.write_bytes(b"\xff{"), "damaged"),
    "other array file": (lambda path: np.savez(path.with_suffix(".npz"), a=1), "damaged"),
    "of an earlier revision": (remove_seal, "unverified"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_record_is_set_aside_and_made_again(run, make_parts, capsys, edit):
    change, fault = EDITS[edit]
    path = record_of(run)
    expected = total(path)
    change(path)
    training.run(make_parts(**STEPS), run)
    assert total(path) == expected and f"{expected:.4f}" in capsys.readouterr().out
    assert path.with_name(f"{fault}-{path.name}").exists()


def test_a_current_record_is_shown_without_evaluating(run, make_parts, monkeypatch, capsys):
    monkeypatch.setattr(training, "run_evaluation", None)
    training.run(make_parts(**STEPS), run)
    assert f"{total(record_of(run)):.4f}" in capsys.readouterr().out


def test_a_sweep_takes_a_run_for_finished_only_by_its_hashes(run, make_parts, repository):
    config = make_parts(**STEPS).config
    point = grid.Point({"x": "run"}, dict(config))
    folder = run.rename(run.parent / point.name).parent
    found = runner.look(point, folder)
    assert found.status == "finished" and len(found.hashes) == 3
    path = record_of(folder / point.name)
    whole = path.read_text()
    edit_number(path)
    assert runner.look(point, folder).status == "unfinished"
    path.write_text(whole)
    other = {**config, "data": {**config["data"], "bits": 2}}
    assert runner.look(grid.Point(point.overrides, other), folder).status == "failed"
    shutil.rmtree(folder / point.name / "checkpoints")
    assert runner.look(point, folder).status == "unfinished"


@pytest.mark.slow
def test_a_study_measures_again_what_was_measured_of_another_checkpoint(run, make_parts):
    point = grid.Point({"seed": "0"}, dict(make_parts(**STEPS).config))
    folder = run.rename(run.parent / point.name).parent
    outcome = runner.look(point, folder)
    first = schedules_summary.measure(outcome, folder, 4, lambda: None)
    path = folder / f"{point.name}.measured.json"
    whole = path.read_text()
    for old in (outcome.hashes["checkpoint"], str(first.values["iid"])):
        path.write_text(whole.replace(old, "1" * len(old)))
        assert schedules_summary.measure(outcome, folder, 4, lambda: None).values == first.values
    assert path.read_text() == whole


@pytest.mark.slow
def test_a_sweep_sees_that_the_data_changed(make_parts, tmp_path, data_dir, monkeypatch):
    """The configuration names a file, whose pixels are others by now."""
    images = np.random.default_rng(0).integers(0, 4, (60, 4, 4, 1), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    monkeypatch.setenv("VDM_DATA_DIR", str(data_dir))
    options = {"path": str(tmp_path / "images.npy"), "num_levels": 4}
    parts = make_parts(data={"name": "arrays", "arrays": options}, **STEPS)
    point = grid.Point({"x": "y"}, dict(parts.config))
    training.run(parts, tmp_path / point.name)
    assert runner.look(point, tmp_path).status == "finished"
    np.save(tmp_path / "images.npy", (images + 1) % 4)
    assert runner.look(point, tmp_path).status == "unfinished"


@pytest.fixture
def one_field_more(monkeypatch):
    """The defaults of a later revision: one more field."""

    def extended():
        found = default_config()
        found["train"]["novel_field"] = 3
        return found

    monkeypatch.setattr("vdm.runs.config_identity.default_config", extended)


def test_a_new_field_makes_no_record_stale(run, make_parts, one_field_more, monkeypatch):
    monkeypatch.setattr(training, "run_evaluation", None)
    training.run(make_parts(novel_field=3, **STEPS), run)
    config = make_parts(novel_field=4, **STEPS).config
    assert config_identity.config_hash(config) != hash_in(record_of(run))


def hash_in(path):
    return json.loads(path.read_text())["hashes"]["config"]


def test_the_record_of_an_earlier_revision_stays_that_of_its_run(shared_dir, repository):
    """Its hash was over every field of its time, which `train` completes with those since."""
    folder = shared_dir / "reference" / "runs" / "digits_cadaad2"
    path, identity = record_of(folder), json.loads((folder / "config.json").read_text())
    facts = json.loads(path.read_text())
    now = load_config(str(repository / "configs" / "digits.py")).to_dict()
    now = config_identity.keep_earlier_defaults(identity["config"], now)
    assert config_identity.config_changes(identity["config"], now) == {}
    assert now["evaluate"]["repeats"] == 1  # resuming it prints the number that it has
    for config in (identity["config"], now):
        assert config_identity.earlier_config_hash(config) == facts["hashes"]["config"]
        wanted = {**facts, "earlier_config_hash": config_identity.earlier_config_hash(config)}
        wanted["hashes"] = {**facts["hashes"], "config": config_identity.config_hash(config)}
        assert evaluations.read(path, wanted).fault == "unverified"
    wanted["hashes"]["checkpoint"] = "0" * 64
    assert evaluations.read(path, wanted).fault == "stale"


def test_the_hash_of_a_configuration_is_the_same_in_every_revision(repository):
    """A changed default must be entered in EARLIER_DEFAULTS, or every stored record becomes stale."""
    config = load_config(str(repository / "configs" / "digits.py")).to_dict()
    assert config_identity.config_hash(config).startswith("932c971fd5ca72b8")
