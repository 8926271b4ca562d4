"""Arrays of the official implementation (see README.md), and its parameters in our layout."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.models.vdm.model import VDM
from vdm.networks import make_denoiser
from vdm.schedules import Endpoints, make_schedule

HERE = Path(__file__).resolve().parent
ENDS = (-13.3, 5.0)


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="session")
def committed():
    """`committed(name)`: the arrays of a file that lies in this folder."""
    return lambda name: read(HERE / f"{name}.npz")


@pytest.fixture(scope="session")
def shared(shared_dir):
    """`shared(name)`: the arrays of a file too large for the repository; skips without it."""
    return lambda name: read(shared_dir / "reference" / f"{name}.npz")


@pytest.fixture(scope="session")
def assert_official():
    return assert_as_near_as_official


def assert_as_near_as_official(ours, arrays, name: str, factor: float = 4.0, rel: float = 1e-6):
    """`ours` is as near to the official float64 run as the official float32 run, within `factor`.

    `name` holds "{}" where the arrays' names say f32 or f64; `rel`, of the largest value, covers
    what both float32 runs round to nothing by luck.
    """
    exact = arrays[name.format("f64")].astype(np.float64)
    noise = np.abs(arrays[name.format("f32")] - exact).max()
    ours = np.asarray(ours, np.float64)
    assert ours.size == exact.size, f"{name}: {ours.shape} against {exact.shape}"
    error = np.abs(ours.reshape(exact.shape) - exact).max()
    allowed = factor * noise + rel * np.abs(exact).max()
    assert error <= allowed, f"{name}: off by {error:.3g}, allowed {allowed:.3g}"


@pytest.fixture(scope="session")
def official_params(shared):
    """`official_params(fourier, attention)`: the 64-channel network's parameters in our layout."""
    flat = shared("params_score_n64")
    tree: dict = {}
    for name, array in flat.items():
        *parents, leaf = name.removeprefix("score_model/").split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = jnp.asarray(array)
    return lambda fourier, attention: translate(tree, fourier, attention)


def translate(tree: dict, fourier: int, attention: int) -> dict:
    """Official names and layout -> ours: identical blocks lie stacked on a leading axis."""
    conv_in = tree["conv_in"]
    return {
        "conv_in": {"kernel": conv_in[f"kernel[fourier{fourier}]"], "bias": conv_in["bias"]},
        "dense0": tree["dense0"],
        "dense1": tree["dense1"],
        "down": stack([block(tree, "down", i, attention) for i in range(1)]),
        "middle1": block(tree, "mid", 1, True),
        "middle2": block(tree, "mid", 2, False),
        "up": stack([block(tree, "up", i, attention) for i in range(2)]),
        "norm_out": tree["GroupNorm_0"],
        "conv_out": tree["conv_out"],
    }


def block(tree: dict, part: str, index: int, attention: int) -> dict:
    names = {"GroupNorm_0": "norm1", "GroupNorm_1": "norm2", "nin_shortcut": "shortcut"}
    residual = tree[f"{part}.block_{index}"]
    ours = {"residual": {names.get(name, name): leaf for name, leaf in residual.items()}}
    if attention:
        theirs = tree[f"{part}.attn_{index}"]
        ours["attention"] = {"norm" if n == "GroupNorm_0" else n: v for n, v in theirs.items()}
    return ours


def stack(blocks: list) -> dict:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)


@pytest.fixture(scope="session")
def official_unet():
    """`official_unet(fourier, attention)`: the module those parameters are for."""

    def build(fourier: int, attention: int):
        options = {
            "channels": 64,
            "num_blocks": 1,
            "num_groups": 32,
            "attention": bool(attention),
            "fourier_exponents": (6, 7) if fourier else (),
            "dropout": 0.0,
        }
        return make_denoiser("unet", 256, options)

    return build


@pytest.fixture(scope="session")
def official_schedule(committed):
    """`official_schedule(type)`: (schedule, parameters) of "fixed" or "learnable_scalar"."""

    def build(kind: str):
        if kind == "fixed":
            return make_schedule("linear", Endpoints(*ENDS)), {}
        stored = committed("params_gamma_learnable_scalar")
        slope, start = abs(float(stored["gamma/w"][0])), float(stored["gamma/b"][0])
        params = {"gamma_0": jnp.float32(start), "gamma_1": jnp.float32(start + slope)}
        return make_schedule("learned_linear", Endpoints(*ENDS)), {"endpoints": params}

    return build


@pytest.fixture(scope="session")
def official_model(official_schedule, official_unet, official_params):
    """`official_model(type)`: (VDM, parameters) with Fourier features, without attention."""

    def build(kind: str):
        schedule, shape = official_schedule(kind)
        model = VDM((32, 32, 3), 256, schedule, official_unet(1, 0), "eps", False, ENDS)
        return model, {"schedule": shape, "denoiser": official_params(1, 0)}

    return build
