"""Every configuration is built, shrunk and stepped, and says how to run it."""

import ast
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import build
from experiments.parsing import load_config
from experiments.provenance import flatten
from vdm import devices
from vdm.data.batches import train_batch

CONFIGS = sorted(p.stem for p in (Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.fixture
def images(tmp_path):
    """A file for configurations that need one."""
    path = tmp_path / "images.npz"
    rng = np.random.default_rng(0)
    draw = lambda n: rng.integers(0, 256, (n, 6, 5, 2), dtype=np.uint8)  # noqa: E731
    np.savez(path, train=draw(40), test=draw(10))
    return path


def shrink(config, images):
    """The same run with a small network and a small batch."""
    if config.data.name == "arrays":
        config.data.arrays.path = str(images)
    config.denoiser.unet.channels = 8
    config.denoiser.unet.num_blocks = 1
    config.denoiser.mlp.width = 8
    config.denoiser.mlp.num_blocks = 1
    config.train.batch_size = 8
    config.train.num_steps = 2
    return config.to_dict()


@pytest.mark.parametrize("name", CONFIGS)
def test_built_shrunk_and_stepped(name, images, tmp_path, repository, monkeypatch):
    monkeypatch.chdir(repository)
    config = shrink(load_config(f"configs/{name}.py"), images)
    parts = build.build(config, cache_dir=tmp_path / "cache")
    state, step = parts.fresh_state(), parts.train_step()
    before = jax.device_get(state.params)
    for n in range(2):
        batch = devices.place_batch(train_batch(parts.dataset, 0, n, 8), parts.mesh)
        state, metrics = step(state, batch)
    assert int(state.step) == 2
    assert all(np.isfinite(float(value)) for value in metrics.values())
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, state.params)
    assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "base"])
def test_opens_with_its_command(name, repository):
    doc = ast.get_docstring(ast.parse((repository / "configs" / f"{name}.py").read_text()))
    assert f"python -m experiments.train --config=configs/{name}.py" in doc
    assert "bits/dim" in doc


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "base"])
def test_only_fields_of_the_base(name, repository, monkeypatch):
    monkeypatch.chdir(repository)
    base = flatten(load_config("configs/base.py"))
    found = flatten(load_config(f"configs/{name}.py"))
    assert found.keys() == base.keys()
