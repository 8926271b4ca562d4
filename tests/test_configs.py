"""Every configuration and variant is built, shrunk and stepped, and says what it costs and gives."""

import ast
import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cli.listing import list_variants
from experiments.cli.parsing import load_config
from vdm.errors import ConfigError
from vdm.models import make_family
from vdm.runs.config import flatten
from vdm.runs.parts import build
from vdm.types import Batch, DataSpec

ROOT = Path(__file__).parent.parent


def collect():
    """{value of --config, without its folder and ending: its record or None}; of the repository."""
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        named = {path: variant for path, variant, _ in list_variants()}
    finally:
        os.chdir(before)
    return {path.removeprefix("configs/").replace(".py", ""): v for path, v in named.items()}


RECORDS = collect()
VARIANTS = list(RECORDS)
CONFIGS = sorted({name.partition(":")[0] for name in VARIANTS})
SHAPES = {
    "arrays": (6, 5, 2),
    "folder": (6, 5, 2),
    "cifar10": (8, 8, 3),
    "mnist": (8, 8, 1),
    "fashion_mnist": (8, 8, 1),
    "downsampled_imagenet_32": (8, 8, 3),
    "downsampled_imagenet_64": (8, 8, 3),
}
"""Small random images in place of each configuration's, as square and with as many channels."""


def random_images(path, shape):
    rng = np.random.default_rng(0)
    draw = lambda n: rng.integers(0, 256, (n, *shape), dtype=np.uint8)  # noqa: E731
    np.savez(path, train=draw(40), test=draw(10))
    return path


def shrink(config, folder, network="mlp"):
    """Give the run a small network, a small batch, and images that need no download."""
    config.denoiser.name = network
    if config.data.name in SHAPES:
        path = random_images(folder / "images.npz", SHAPES[config.data.name])
        config.data.name, config.data.arrays.path = "arrays", str(path)
    config.denoiser.unet.channels = 8
    config.denoiser.unet.num_blocks = 1
    config.denoiser.mlp.width = 8
    config.denoiser.mlp.num_blocks = 1
    config.train.batch_size = 8
    config.train.num_steps = 2
    return config.to_dict()


def open_config(name):
    file, colon, setting = name.partition(":")
    return load_config(f"configs/{file}.py{colon}{setting}")


def build_and_step(config, folder):
    parts = build(config, cache_dir=folder / "cache")
    state, step = parts.fresh_state(), parts.train_step()
    before = jax.device_get(state.params)
    for n in range(2):
        state, metrics = step(state, parts.train_batch(n))
    assert int(state.step) == 2
    assert all(np.isfinite(float(value)) for value in metrics.values())
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, state.params)
    assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_built_shrunk_and_stepped(name, tmp_path, repository, monkeypatch):
    """With the MLP, which compiles in a second; the next two tests take the network itself."""
    monkeypatch.chdir(repository)
    build_and_step(shrink(open_config(name), tmp_path), tmp_path)


UNETS = ("base", "cifar10:aug", "mnist:fashion_gpu")
"""Blocks written out; attention everywhere and augmentation; bfloat16."""


@pytest.mark.slow
@pytest.mark.parametrize("name", UNETS)
def test_its_own_network_shrunk_and_stepped(name, tmp_path, repository, monkeypatch):
    monkeypatch.chdir(repository)
    build_and_step(shrink(open_config(name), tmp_path, "unet"), tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("name", VARIANTS)
def test_its_own_network_in_full_size(name, repository, monkeypatch):
    """Traced, not compiled: every option fits, and a bound of every image comes out."""
    monkeypatch.chdir(repository)
    config = open_config(name).to_dict()
    shape = SHAPES.get(config["data"]["name"], (8, 8, 1))
    model = make_family(DataSpec("any", shape, 256, {}, ""), config)
    key, zeros = jax.random.key(0), np.zeros(2, np.int32)
    params = jax.eval_shape(model.init, key)
    batch = Batch(np.zeros((2, *shape), np.uint8), zeros, zeros == 0, np.zeros(2, np.float32))
    noise = jax.eval_shape(functools.partial(model.training_noise, batch_size=2), key)
    total = jax.eval_shape(lambda *args: model.terms(*args).total, params, batch, noise)
    assert total.shape == (2,) and total.dtype == jnp.float32


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "base"])
def test_opens_with_its_command(name):
    doc = ast.get_docstring(ast.parse((ROOT / "configs" / f"{name}.py").read_text()))
    assert f"python -m experiments.train --config=configs/{name}.py" in doc


@pytest.mark.parametrize("name", [name for name, record in RECORDS.items() if record])
def test_a_variant_says_what_it_costs_and_gives(name):
    record = RECORDS[name]
    assert record.line.endswith(".") and len(record.line) <= 96
    assert record.cost and ("bits/dim" in record.expected or "measured" in record.expected)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "base"])
def test_only_fields_of_the_base(name, repository, monkeypatch):
    monkeypatch.chdir(repository)
    """And of what it names itself: a new schedule's or family's options need no line there."""
    config = open_config(name)
    chosen = {"model": config.model.family}
    chosen |= {part: config[part].name for part in ("data", "schedule", "denoiser", "context")}
    own = tuple(f"{part}.{named}." for part, named in chosen.items())
    base, found = flatten(load_config("configs/base.py")), flatten(config)
    assert base.keys() <= found.keys()
    assert [field for field in found.keys() - base.keys() if not field.startswith(own)] == []


def test_a_variant_that_does_not_exist_lists_the_choices(repository, monkeypatch):
    monkeypatch.chdir(repository)
    with pytest.raises(ConfigError, match=r"mnist\.py:tpu: no such variant.*mnist\.py:fashion_gpu"):
        open_config("mnist:tpu")
    with pytest.raises(ConfigError, match=r"imagenet\.py: no such variant.*:32, .*:64"):
        open_config("imagenet")


PAPER = {
    "cifar10": (128, 32, 0.1, 128, "learned_linear", False),
    "cifar10:aug": (256, 32, 0.05, 1024, "monotone_network", True),
    "imagenet:32": (256, 32, 0.1, 512, "learned_linear", False),
    "imagenet:64": (256, 64, 0.1, 512, "learned_linear", False),
}
"""Channels, blocks, dropout, batch, schedule, attention (Kingma 2021, app. B)."""


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_hyper_parameters(name, repository, monkeypatch):
    monkeypatch.chdir(repository)
    config = open_config(name)
    unet, optimizer = config.denoiser.unet, config.optimizer
    found = (unet.channels, unet.num_blocks, unet.dropout, config.train.batch_size)
    assert (*found, config.schedule.name, unet.attention) == PAPER[name]
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.ema_decay) == (
        2e-4,
        0.01,
        0.9999,
    )
    assert any(config.data.augment.values()) == (name == "cifar10:aug")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"objective.interior_loss": "variance", "objective.num_timesteps": 10},
            "with T = 10 steps",
        ),
        ({"objective.interior_loss": "var"}, "no such loss of the interior"),
        (
            {"objective.times": "adaptve"},
            "no such density of times; choose one of adaptive, uniform",
        ),
        ({"objective.weight.name": "simple"}, "no such weight"),
        (
            {"objective.weight.name": "truncated", "objective.weight.truncated.gamma_min": 9.0},
            "0 every",
        ),
        ({"schedule.name": "linear", "schedule.gamma_1": 30.0}, "outside float32's useful range"),
        (
            {"optimizer.encoder_learning_rate": -1.0},
            "encoder_learning_rate=-1.0: must be at least 0",
        ),
        ({"schedule.name": "edm", "schedule.gamma_1": -9.0}, "must lie at least"),
        (
            {"schedule.name": "rational_spline", "schedule.rational_spline.times": (0.5, 0.4)},
            "strictly",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    fields, message, tmp_path, repository, monkeypatch
):
    monkeypatch.chdir(repository)
    config = load_config("configs/digits.py")
    config.update_from_flattened_dict(fields)
    with pytest.raises(ConfigError, match=message):
        build(shrink(config, tmp_path), cache_dir=tmp_path / "cache")
