"""Pictures of a schedule per pixel, and the study's table and times, on tiny models."""

import json

import jax
import numpy as np
import pytest

from experiments.reports import noise_maps
from experiments.studies import per_pixel_summary
from experiments.sweeps.runner import Outcome
from vdm.errors import ConfigError
from vdm.models.vdm.make import make_model
from vdm.types import TERM_NAMES, DataSpec

SHAPE = (3, 4, 2)


def make(schedule, context=None):
    spec = DataSpec("toy", SHAPE, 17, {"train": 1}, "0" * 64)
    return make_model(
        spec,
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": schedule, "gamma_0": -8.0, "gamma_1": 4.0},
        {"name": "mlp", "mlp": {"width": 4, "num_blocks": 1}},
        context,
    )


def shaken(model):
    leaves, tree = jax.tree.flatten(model.init(jax.random.key(0)))
    draw = lambda v: v + 0.3 * jax.random.normal(jax.random.key(v.size), v.shape)  # noqa: E731
    params = tree.unflatten([draw(v) for v in leaves])
    ends = {"gamma_0": np.float32(-8.0), "gamma_1": np.float32(4.0)}
    return {**params, "schedule": {**params["schedule"], "endpoints": ends}}


def test_maps_of_a_schedule_that_is_known():
    """The line: half way at t = 1/2 everywhere, no spread, nothing to pay."""
    model = make("pixel_polynomial")
    params = model.init(jax.random.key(0))
    images, times = np.zeros((3, *SHAPE), int), np.array([0.25, 0.5])
    found = noise_maps.measure(model, params, images, times, 0)
    for gamma, expected in zip(found.gamma, (-5.0, -2.0), strict=True):
        np.testing.assert_allclose(gamma, np.full(SHAPE, expected), atol=1e-5)
    assert not found.spread.any() and not found.auxiliary_bits.any()
    np.testing.assert_allclose(found.half_way, 0.5, atol=0.003)
    first = {**params["schedule"]["shape"]}
    weights = np.array(first["weights"])
    weights[0, 0, 0] = (0.0, -1.0, 1.0)  # (1 - t)^2: this pixel first
    params["schedule"]["shape"] = {"weights": weights}
    half_way = noise_maps.measure(model, params, images, times, 0).half_way
    # The integral of (1 - u)^2 is 1/2 at t = 1 - 2^(-1/3) = .2063, but for the floor.
    assert half_way[0, 0, 0] == pytest.approx(0.2063, abs=0.005)
    assert half_way.argmin() == 0


@pytest.mark.slow
def test_a_page_of_a_conditional_one(tmp_path):
    model = make("conditional_polynomial", {"name": "gaussian", "gaussian": {"num_features": 2}})
    params = shaken(model)
    images = np.random.default_rng(0).integers(0, 17, (5, *SHAPE))
    found = noise_maps.measure(model, params, images, np.array([0.5]), 0)
    assert (found.spread > 0).all() and (found.auxiliary_bits > 0).all()
    noise_maps.write(tmp_path, found, "facts")
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {"index.html", "gamma.png", "spread.png", "order.png", "auxiliary.png"}
    assert written >= {"maps.npz", "gamma.csv", "auxiliary.tex"}
    with np.load(tmp_path / "maps.npz") as arrays:
        assert arrays["gamma"].shape == (1, *SHAPE) and arrays["auxiliary_bits"].shape == (5,)


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ConfigError, match="Linear of this run has one gamma for all"):
        noise_maps.check(make("learned_linear"))
    for words in (["0.5", "x"], ["1.5"], []):
        with pytest.raises(ConfigError, match=r"--times=.*numbers in \[0, 1\]"):
            noise_maps.read_times(words)


def test_the_study_s_table_pairs_seeds_with_the_line_s():
    def outcome(kind, seed, total):
        terms = {**dict.fromkeys(TERM_NAMES, 0.1), "total": total}
        return Outcome(
            f"{kind}{seed}", {"schedule.name": kind, "seed": seed}, "finished", "", terms
        )

    totals = {"linear": (2.0, 3.0, 4.0), "pixel_polynomial": (1.9, 2.8, 3.7)}
    outcomes = [
        outcome(kind, str(seed), total)
        for kind, values in totals.items()
        for seed, total in enumerate(values)
    ]
    failed = Outcome("x", {"schedule.name": "linear", "seed": "9"}, "failed", "why")
    table = per_pixel_summary.summary([*outcomes, failed])
    line, pixel = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert line["seeds"] == 3 and line["minus_linear"] is None
    assert pixel["total"] == pytest.approx(2.8) and pixel["minus_linear"] == pytest.approx(-0.2)
    # Student's t of three differences with deviation .1: 4.303 .1/sqrt(3)
    assert pixel["minus_linear_95"][1] == pytest.approx(-0.2 + 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    json.dumps(table.rows)


def test_the_study_varies_what_it_says():
    grids = per_pixel_summary.axes(3)
    assert [grid["schedule.name"] for grid in grids] == [
        (name,) for name in per_pixel_summary.KINDS
    ]
    assert all(grid["seed"] == ("0", "1", "2") for grid in grids)
    assert grids[2]["context.name"] == ("gaussian",)
