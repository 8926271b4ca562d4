"""A run opened from its folder: nothing it does not need is touched, and nothing wrong is taken."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from vdm import runs
from vdm.errors import CheckpointError, ConfigError, DataError, VdmError


@pytest.fixture
def copied(tiny_run, tmp_path):
    """A copy of the run that may be changed."""
    return shutil.copytree(tiny_run[0], tmp_path / "run")


@pytest.fixture(scope="module")
def run(tiny_run):
    return runs.open(tiny_run[0], cache_dir=tiny_run[1])


def test_a_part_of_a_configuration_is_enough_to_train(tiny_config, tiny_run):
    parts = runs.build(tiny_config, cache_dir=tiny_run[1])
    state, train_step = parts.fresh_state(), parts.train_step()
    for step in range(2):
        state, metrics = train_step(state, parts.train_batch(step))
    assert int(state.step) == 2 and np.isfinite(float(metrics["bits_per_dim"]))
    assert parts.config["optimizer"]["b2"] == 0.99


MISTAKES = {
    "field": ({"train": {"steps": 3}}, ["config.train.steps=3", "config.train.num_steps"]),
    "group": ({"trian": {"num_steps": 3}}, ["config.trian", "config.train"]),
    "another group's field": ({"batch_size": 3}, ["config.batch_size=3", "train.batch_size"]),
    "field for a group": ({"schedule": "linear"}, ["config.schedule='linear'", "group"]),
    "group for a field": ({"seed": {"of": 1}}, ["config.seed", "one field"]),
    "kind": ({"train": {"num_steps": "many"}}, ["config.train.num_steps='many'", "integer"]),
    "none": ({"seed": None}, ["config.seed=None", "integer"]),
    "range": ({"train": {"batch_size": 0}}, ["config.train.batch_size=0", "at least 1"]),
    "name": ({"data": {"name": "digitz"}}, ["data.name='digitz'", "digits"]),
    "no mapping": (["digits"], ["config=['digits']", "dictionary"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_a_configuration_names_field_and_choices(case):
    config, parts = MISTAKES[case]
    with pytest.raises(ConfigError) as refused:
        runs.build(config)
    assert all(part in str(refused.value) for part in parts), refused.value


def test_no_data_are_touched_before_they_are_asked_for(copied, tiny_run, tmp_path, monkeypatch):
    """The images have gone, and so has what was prepared of them."""
    saved = json.loads((copied / "config.json").read_text())
    saved["config"]["data"]["name"] = f"arrays:{tmp_path / 'moved.npz'}"
    (copied / "config.json").write_text(json.dumps(saved))
    monkeypatch.setenv("VDM_DATA_DIR", str(tmp_path / "nowhere"))
    found = runs.open(copied)
    assert found.model.shape == (4, 4, 1) and found.steps == [2]
    assert found.sample(3, steps=2).images.shape == (3, 4, 4, 1)
    for ask in (lambda: found.data, found.evaluate):
        with pytest.raises(DataError, match=saved["data"]["content_hash"]) as refused:
            ask()
        assert "moved.npz" in str(refused.value) and str(copied) in str(refused.value)
    kept = runs.open(copied, cache_dir=tiny_run[1])
    assert kept.data.split("test").shape == (20, 4, 4, 1)


def test_parameters_of_any_step(run, tiny_run):
    latest, same = run.params(), run.params(2)
    jax.tree.map(np.testing.assert_array_equal, latest, same)
    jax.tree.map(np.testing.assert_array_equal, latest, run.params("best"))
    model = run.model.init(jax.random.key(0))
    assert jax.tree.structure(latest) == jax.tree.structure(model)


def test_evaluation_gives_what_training_wrote(run, tiny_run):
    (path,) = (tiny_run[0] / "evaluations").glob("*.json")
    written, arrays = json.loads(path.read_text()), np.load(path.with_suffix(".npz"))
    found = run.evaluate(batch_size=4)
    for name, row in written["bits_per_dim"].items():
        assert abs(found.bits_per_dim[name]["mean"] - row["mean"]) < 1e-6
    np.testing.assert_array_equal(found.evaluation.index, arrays["index"])
    for name, values in found.evaluation.terms.items():
        np.testing.assert_allclose(values, arrays[name], rtol=1e-5, atol=1e-6)
    assert found.path is None and found.facts["checkpoint_step"] == 2


def test_records_are_told_apart(copied, tiny_run):
    found = runs.open(copied, cache_dir=tiny_run[1])
    (name,) = found.evaluations
    assert found.evaluations[name].fault == ""
    path = found.evaluate("validation", timesteps=3, seed=1, write=True).path
    assert found.evaluations[path.name].fault == ""
    path.write_text(path.read_text().replace('"timesteps_eval": 3', '"timesteps_eval": 4'))
    assert found.evaluations[path.name].fault == "damaged"
    (copied / "checkpoints" / "2").rename(copied / "checkpoints" / "damaged-2")
    assert found.evaluations[name].fault == "unverified"


def test_former_values_that_count_for_nothing_are_hashed_and_not_built(copied, tiny_run):
    path = copied / "config.json"
    saved = json.loads(path.read_text())
    saved["config"]["schedule"]["rational_spline"]["learned_endpoints"] = False
    path.write_text(json.dumps(saved))
    run = runs.open(copied, cache_dir=tiny_run[1])
    written = run.evaluate("validation", timesteps=3, seed=1, write=True).path
    assert run.evaluations[written.name].fault == ""
    assert runs.build(run.config, cache_dir=tiny_run[1]).model == run.model


def test_samples_do_not_depend_on_the_batch(run):
    whole, parts = run.sample(5, steps=3, seed=1), run.sample(5, steps=3, seed=1, batch_size=2)
    np.testing.assert_array_equal(whole.images, parts.images)
    assert isinstance(whole.images, np.ndarray) and whole.images.max() < 4
    assert not np.array_equal(whole.images, run.sample(5, steps=3, seed=2).images)


BAD_ARGUMENTS = {
    "split": (lambda run: run.evaluate("dev"), DataError, "split='dev'.*validation"),
    "step": (lambda run: run.params(7), CheckpointError, "step=7.*2"),
    "step name": (lambda run: run.params("newest"), ConfigError, "step=newest.*latest"),
    "repeats": (lambda run: run.evaluate(repeats=0), ConfigError, "repeats=0"),
    "timesteps": (lambda run: run.evaluate(timesteps=-1), ConfigError, "timesteps=-1"),
    "seed": (lambda run: run.sample(1, seed=2**32), ConfigError, f"seed={2**32}"),
    "num": (lambda run: run.sample("4"), ConfigError, "num='4'"),
    "sampler": (lambda run: run.sample(1, sampler="euler"), ConfigError, "euler.*ancestral"),
    "batch_size": (lambda run: run.sample(1, batch_size=0), ConfigError, "batch_size=0"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(run, case):
    ask, kind, match = BAD_ARGUMENTS[case]
    with pytest.raises(VdmError, match=match) as refused:
        ask(run)
    assert isinstance(refused.value, kind)


def _edit(change):
    def damage(folder):
        path = folder / "config.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def _unfinished(folder):
    for name in ("checkpoints", "evaluations"):
        shutil.rmtree(folder / name)
    _edit(lambda content: content.pop("has_checkpoints"))(folder)


NEWER = {"name": "warp", "warp": {}}
BAD_FOLDERS = {
    "missing": (shutil.rmtree, "is no folder"),
    "of no run": (lambda folder: (folder / "config.json").unlink(), "holds no run"),
    "damaged": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json"),
    "emptied": (_edit(lambda content: content.update(data={})), r"config\.json.*damaged"),
    "edited": (_edit(lambda content: content.update(config=[1])), r"config\.json.*damaged"),
    "unfinished": (_unfinished, "no checkpoint yet.*2 steps"),
    "bereft": (lambda folder: shutil.rmtree(folder / "checkpoints"), "put them back"),
    "newer version": (
        _edit(lambda content: content["provenance"]["versions"].update(vdm="99.1.0")),
        r"newer version \(99\.1\.0.*upgrade",
    ),
    "newer field": (
        _edit(lambda content: content["config"]["train"].update(wizardry=3)),
        r"config\.train\.wizardry=3.*newer version.*upgrade",
    ),
    "newer schedule": (
        _edit(lambda content: content["config"]["schedule"].update(name="warp")),
        r"warp.*newer version.*upgrade",
    ),
    "newer section": (
        _edit(lambda content: content["config"]["schedule"].update(**NEWER)),
        r"warp.*newer version.*upgrade",
    ),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_folder_that_cannot_be_opened(copied, case):
    damage, match = BAD_FOLDERS[case]
    damage(copied)
    with pytest.raises(CheckpointError, match=match) as refused:
        runs.open(copied)
    assert str(copied) in str(refused.value) and "--" not in str(refused.value)


def test_a_damaged_checkpoint_is_not_taken(copied):
    data = max((copied / "checkpoints/2/ema").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 255
    data.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="none can be trusted"):
        runs.open(copied).params()


def test_the_readme_s_example_runs(repository, tiny_run, monkeypatch):
    monkeypatch.setenv("VDM_DATA_DIR", str(tiny_run[1]))
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    code = next(block for block in blocks if "runs.open" in block)
    names: dict = {}
    exec(code.replace("runs/digits", str(tiny_run[0])), names)
    assert names["images"].shape == (16, 4, 4, 1)
