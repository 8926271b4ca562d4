"""A trained run of a few steps, on images of one's own."""

import shutil

import numpy as np
import pytest

from experiments.sessions import training
from vdm import runs

TINY = {
    "denoiser": {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    "train": {"num_steps": 2, "batch_size": 8, "log_every_steps": 1, "num_samples": 0},
    "evaluate": {"batch_size": 10, "randomisations": 2},
}


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """Some fields of a configuration, whose data are a .npz."""
    path = tmp_path_factory.mktemp("images") / "images.npz"
    draw = np.random.Generator(np.random.PCG64(0))
    sizes = {"train": 40, "validation": 10, "test": 20}
    arrays = {s: draw.integers(0, 4, (n, 4, 4, 1)).astype(np.uint8) for s, n in sizes.items()}
    np.savez(path, **arrays)
    data = {"name": f"arrays:{path}", "arrays": {"num_levels": 4}}
    train = {**TINY["train"], "writers": ("json_lines",)}
    return {**TINY, "data": data, "train": train}


@pytest.fixture(scope="session")
def tiny_run(tiny_config, tmp_path_factory):
    """(work folder, cache of its data) of a run that has ended; not to be changed."""
    cache = tmp_path_factory.mktemp("cache")
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    training.run(runs.build(tiny_config, cache_dir=cache), workdir)
    return workdir, cache


@pytest.fixture
def earlier_run(shared_dir, tmp_path):
    """A copy of a run that an earlier revision wrote; skips without it."""
    source = shared_dir / "reference" / "runs" / "digits_cadaad2"
    if not source.is_dir():
        pytest.skip(f"needs the run {source.name} in shared/reference/runs")
    copy = shutil.copytree(source, tmp_path / "empty" / "run")
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # the reference may not be written
    return copy
