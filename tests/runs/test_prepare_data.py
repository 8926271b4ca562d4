"""Preparing data with the library alone: its command line, and the process that a run starts for it."""

import inspect
import sys

import numpy as np
import pytest
from PIL import Image

from vdm.data import RECIPES
from vdm.errors import ConfigError, DataError, DiskError
from vdm.runs import dataset, prepare_data

ALONE = """
import runpy, sys

for name in ("ml_collections", "experiments", "configs"):
    sys.modules[name] = None  # importing it fails
sys.argv = ["prepare_data", *{words!r}]
runpy.run_module("vdm.runs.prepare_data", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def photos(tmp_path):
    """Forty images of 3 x 3."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(40):
        image = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "photos" / f"{number:03d}.png")


def test_a_folder_without_launchers_and_flags(run_python, photos, tmp_path):
    """Started elsewhere than in a clone; what it prepares is what a configuration opens."""
    words = ["--dataset=folder:photos", "--data_dir=cache", "--bits=5", "--crop=2"]
    done = run_python(ALONE.format(words=words), devices=1, cwd=tmp_path)
    section = {"name": f"folder:{tmp_path / 'photos'}", "bits": 5, "folder": {"crop": 2}}
    spec = dataset.open_dataset(section, tmp_path / "cache", prepare=False).spec
    assert spec.shape == (2, 2, 3) and spec.num_levels == 32
    assert f"content hash: {spec.content_hash}" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [([], 2, "dataset=: no data set"), (["--dataset=folder:none"], 3, "none: no such folder")],
)
def test_a_mistake_is_one_line_with_its_exit_code(words, code, part, tmp_path, capsys):
    assert prepare_data.main([*words, f"--data_dir={tmp_path}"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and part in line


def test_every_option_of_a_recipe_has_an_option_of_the_command_line():
    for name, recipe in RECIPES.items():
        options = set(inspect.signature(recipe).parameters) - {"source_dir"}
        assert options <= set(prepare_data.OWN), name


@pytest.mark.skipif(dataset.has_tfds(), reason="would download the set")
def test_a_run_starts_the_library_in_a_process_of_its_own(tmp_path, monkeypatch, capfd):
    """From any folder. The other process ends with 3, as it too has no TensorFlow Datasets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "has_tfds", lambda: True)
    with pytest.raises(DataError, match="'mnist': preparing it ended with 3"):
        dataset.open_dataset({"name": "mnist", "num_validation": 10}, tmp_path / "cache")
    assert "pip install -e '.[data]'" in capfd.readouterr().err


@pytest.mark.parametrize(("code", "kind"), [(2, ConfigError), (6, DiskError), (1, DataError)])
def test_the_exit_code_of_the_other_process_is_passed_on(code, kind, tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(dataset, "has_tfds", lambda: True)
    with pytest.raises(kind):
        dataset.open_dataset({"name": "mnist", "num_validation": 10}, tmp_path / "cache")
