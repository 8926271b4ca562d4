"""A wheel in an empty folder, without launchers and what they need: it opens a run and uses it."""

import json
import shutil
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys

for name in ("ml_collections", "experiments", "configs"):
    sys.modules[name] = None  # importing it fails

import vdm.runs

run = vdm.runs.open("run")
total = run.evaluate(repeats=1, randomisations=8, seed=0).bits_per_dim["total"]["mean"]
images = run.sample(4, steps=5).images
from absl import flags
modules = flags.FLAGS.flags_by_module_dict()
defined = [name for name in modules if name.partition(".")[0] not in ("absl", "orbax")]
print(json.dumps({
    "file": vdm.__file__, "steps": run.steps, "total": total, "defined": defined,
    "shape": images.shape, "codes": [int(images.min()), int(images.max())],
}))
"""


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory):
    """The folder that a wheel of this clone is unpacked in."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(repository / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "vdm", source / "vdm", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    words = [*pip, "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.slow
def test_an_earlier_run_from_a_wheel(installed, earlier_run, run_python, tmp_path):
    env = {"PYTHONPATH": str(installed), "VDM_DATA_DIR": str(tmp_path / "cache")}
    done = run_python(PROGRAM, devices=1, timeout=300, env=env, cwd=earlier_run.parent)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["file"].startswith(str(installed))
    assert abs(found["total"] - 1.7827035) < 1e-6
    assert found["steps"] == [3000] and found["shape"] == [4, 8, 8, 1]
    assert 0 <= found["codes"][0] <= found["codes"][1] <= 16
    assert not found["defined"]
