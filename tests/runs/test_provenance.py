"""The facts that a number is published with."""

import subprocess

import jax
import pytest
from ml_collections import config_dict

import vdm
from vdm.runs import provenance


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", *who, *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_revision_tells_changes(clone):
    revision = git(clone, "rev-parse", "HEAD")[:12]
    assert provenance.git_revision(clone) == revision
    (clone / "file").write_text("2")
    assert provenance.git_revision(clone) == revision + "+changes"


def test_a_repository_that_moves_on_under_a_run_is_not_its_revision(clone):
    before = provenance.revision_at_start(clone)
    assert before == git(clone, "rev-parse", "HEAD")[:12]
    (clone / "file").write_text("2")
    git(clone, "commit", "-q", "-a", "-m", "second")
    assert provenance.revision_at_start(clone) == before != provenance.git_revision(clone)
    assert provenance.provenance()["git_revision"] == provenance.revision_at_start()


def test_surrounding_repository_is_not_asked(clone):
    (clone / "copy").mkdir()
    assert provenance.git_revision(clone / "copy") == "unknown"


def test_header_shows_every_field_and_fact():
    config = config_dict.ConfigDict({"train": {"steps": 5, "name": "a"}, "seed": 0})
    text = provenance.header(config)
    assert text.startswith("config.seed = 0\nconfig.train.name = 'a'\nconfig.train.steps = 5\n")
    for part in (f"vdm {vdm.__version__}", f"jax {jax.__version__}", "orbax-checkpoint 0."):
        assert part in text
    assert f"devices: {jax.device_count()} x cpu" in text
    assert "git_revision: " in text and "matmul_precision: default" in text


def test_matmul_precision_in_force():
    with jax.default_matmul_precision("highest"):
        assert provenance.matmul_precision() == "highest"


def test_simulated_devices_and_one_matmul(run_python):
    code = """
from vdm.runs import provenance
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
x = jax.device_put(jnp.ones((8, 4)), NamedSharding(mesh, PartitionSpec("data")))
print(float(jax.jit(jnp.sum)(x)), provenance.devices())
"""
    assert run_python(code).stdout.strip() == "32.0 8 x cpu (cpu), 1 process"


def test_hanging_process_is_killed(run_python):
    with pytest.raises(pytest.fail.Exception, match="killed"):
        run_python("import time; time.sleep(60)", timeout=0.5)
