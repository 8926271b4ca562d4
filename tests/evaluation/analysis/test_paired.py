"""Comparisons: common gammas give the bound that each run's own times give, differences by pairs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import per_pixel
from vdm.data import batches
from vdm.data.cache import prepared
from vdm.errors import ConfigError
from vdm.evaluation.analysis.noise_levels import bin_paired, bin_values, decisive_band, profile
from vdm.evaluation.analysis.paired import (
    all_differences,
    common_range,
    difference,
    make_paired_step,
)
from vdm.evaluation.evaluate import Estimation, Evaluation, evaluate, summarise
from vdm.models.vdm.make import make_model
from vdm.models.vdm.noise import all_evaluation_times
from vdm.runtime.devices import make_mesh


def evaluated(index, terms, num_dims, estimation):
    """An evaluation at the times of its images."""
    sizes = (estimation.seed, estimation.repeats, estimation.randomisations)
    times = np.asarray(all_evaluation_times(*sizes, jnp.asarray(index)))
    return Evaluation(index, terms, num_dims, estimation, times)


SHAPE, LEVELS, NUM = (4, 4, 1), 17, 40


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = {n: rng.integers(0, LEVELS, (NUM, *SHAPE)) for n in ("train", "validation", "test")}
    return prepared.prepare("random", images, LEVELS, tmp_path_factory.mktemp("data"))


def make(dataset, name, gamma_0=None, gamma_1=None, seed=0):
    model = make_model(
        dataset.spec,
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": name, "gamma_0": gamma_0, "gamma_1": gamma_1},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    )
    # One denoiser for all: the same map of time, whatever the end points.
    model = dataclasses.replace(model, time_map=(-8.0, 5.0))
    shake = lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size + seed), p.shape)  # noqa: E731
    params = model.init(jax.random.key(0))
    return model, {**params, "denoiser": jax.tree.map(shake, params["denoiser"])}


def paired(dataset, runs, **options):
    estimation = Estimation(**{"randomisations": 16, **options})
    gammas, mesh = common_range(runs), make_mesh()
    found = []
    for model, params in runs:
        step = make_paired_step(model, estimation, gammas, mesh)
        data = batches.eval_batches(dataset, "test", NUM)
        found.append(evaluate(model, params, data, estimation, mesh, step=step))
    return found, gammas


@pytest.mark.slow
def test_common_gammas_estimate_each_run_s_own_bound(dataset):
    """For a shorter line, a curved schedule and a line, by two routes, within their errors."""
    runs = [
        make(dataset, "linear", -6.0, 3.0),
        make(dataset, "cosine"),
        make(dataset, "linear"),
    ]
    found, _ = paired(dataset, runs, randomisations=64)
    for (model, params), evaluation in zip(runs, found, strict=True):
        data = batches.eval_batches(dataset, "test", NUM)
        own = evaluate(model, params, data, Estimation(randomisations=64, seed=5), make_mesh())
        for name in ("reconstruction", "prior_matching", "denoising_matching", "total"):
            pair = [summarise(e)[name] for e in (evaluation, own)]
            error = math.hypot(*(row.monte_carlo_error for row in pair))
            assert abs(pair[0].mean - pair[1].mean) < 4 * error + 1e-6, name


def test_equal_denoisers_differ_by_exactly_zero_whatever_the_schedule(dataset):
    found, _ = paired(dataset, [make(dataset, "linear"), make(dataset, "cosine")])
    gap = difference(*found)
    assert gap.mean == 0.0 and gap.interval == (0.0, 0.0)
    assert gap.identical and gap.shrinkage is None


def test_pairing_narrows_the_interval(dataset):
    found, _ = paired(dataset, [make(dataset, "linear"), make(dataset, "linear", seed=1)])
    gap = difference(*found)
    assert gap.shrinkage > 1.2
    independent = paired(dataset, [make(dataset, "linear", seed=1)], seed=9)[0][0]
    independent = dataclasses.replace(independent, estimation=found[0].estimation)
    wide = difference(found[0], independent)
    assert np.diff(wide.interval) > np.diff(gap.interval)


def test_difference_by_hand():
    def evaluation(values):
        nats = np.array([values]) * math.log(2.0)
        return evaluated(np.arange(4), {"x": nats}, 1, Estimation(randomisations=1))

    gap = difference(evaluation([3.0, 2.0, 5.0, 6.0]), evaluation([1.0, 1.0, 4.0, 2.0]))
    # Differences 2, 1, 1, 4: mean 2, variance 2; t with 3 degrees of freedom reaches 3.18245.
    assert gap.mean == pytest.approx(2.0)
    assert gap.interval[1] == pytest.approx(2.0 + 3.18245 * math.sqrt(2 / 4), rel=1e-5)
    assert gap.shrinkage == pytest.approx(math.sqrt((10 / 3 + 2) / 2)) and not gap.identical


def test_a_constant_difference_is_not_identity():
    one, other = (
        evaluated(np.arange(4), {"x": np.full((1, 4), v)}, 1, Estimation(randomisations=1))
        for v in (2.0, 1.0)
    )
    gap = difference(one, other)
    assert gap.mean > 1 and gap.shrinkage is None and not gap.identical


def test_one_image_has_no_interval():
    one = evaluated(np.arange(1), {"x": np.array([[1.0]])}, 1, Estimation(randomisations=1))
    assert difference(one, one).interval is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"index": np.array([1, 0])}, "index: "),
        ({"num_dims": 2}, "num_dims: 1 and 2"),
        ({"estimation": Estimation(seed=1)}, "estimation: .*seed=0.* and .*seed=1"),
    ],
)
def test_what_does_not_pair_is_refused(change, match):
    one = evaluated(np.arange(2), {"x": np.ones((8, 2))}, 1, Estimation())
    with pytest.raises(ValueError, match=match):
        difference(one, dataclasses.replace(one, **change))


def test_a_profile_needs_one_time_per_value():
    terms = {"denoising_matching": np.ones((8, 2))}
    with pytest.raises(ValueError, match="repeats=3"):
        bin_paired(evaluated(np.arange(2), terms, 1, Estimation(repeats=3)), (-8.0, 5.0))


@pytest.mark.slow
def test_intervals_cover_the_population_difference():
    """2,000 pairs of runs with a true difference of .1: 95 % within 1.5 %."""
    rng = np.random.default_rng(0)
    hits = resampled = 0
    for _ in range(2000):
        shared, own = rng.normal(size=(1, 30)), rng.normal(size=(2, 1, 30))
        values = [(shared + o + m) * math.log(2.0) for o, m in zip(own, (0.1, 0.0), strict=True)]
        found = [
            evaluated(np.arange(30), {"x": v}, 1, Estimation(randomisations=1)) for v in values
        ]
        gap = difference(*found)
        hits += gap.interval[0] <= 0.1 <= gap.interval[1]
        resampled += gap.bootstrap[0] <= 0.1 <= gap.bootstrap[1]
    assert abs(hits / 2000 - 0.95) < 0.015
    # Percentiles know nothing of Student's t: a little short for 30 images.
    assert abs(resampled / 2000 - 0.95) < 0.025


def test_profile_sums_to_the_term(dataset):
    (evaluation, other), gammas = paired(
        dataset, [make(dataset, "linear", -6.0, 3.0), make(dataset, "linear")]
    )
    for found in (evaluation, other):
        curve = profile(bin_paired(found, gammas))
        total = np.sum(curve.density * np.diff(curve.edges))
        assert total == pytest.approx(summarise(found)["denoising_matching"].mean, rel=1e-9)
    narrow = profile(bin_paired(evaluation, gammas))
    outside = (narrow.edges[1:] < -6.0) | (narrow.edges[:-1] > 3.0)
    assert outside.sum() > 3 and np.all(narrow.density[outside] == 0.0)
    assert np.all(narrow.density[~outside] > 0.0)


def test_common_range_holds_every_run(dataset):
    runs = [make(dataset, "linear", -6.0, 5.5), make(dataset, "learned_linear", -9.0, 3.0)]
    assert common_range(runs) == (-9.0, 5.5)


def test_for_t_steps_the_own_schedule_counts(dataset):
    """At T = 10 two schedules are two models."""
    found, _ = paired(dataset, [make(dataset, "linear"), make(dataset, "cosine")], num_timesteps=10)
    assert abs(difference(*found).mean) > 0.01
    assert jnp.isfinite(jnp.asarray(found[0].total)).all()


def evaluations(gaps, noise, rng):
    """Runs whose totals exceed the first's by `gaps`, on 50 images and 4 randomisations."""
    shared = rng.normal(size=(4, 50))
    return {
        f"run {n}": evaluated(
            np.arange(50),
            {"x": (shared + gap + noise * rng.normal(size=50)) * math.log(2.0)},
            1,
            Estimation(randomisations=4),
        )
        for n, gap in enumerate(gaps)
    }


def test_p_values_are_uniform_where_nothing_differs_and_holm_adjusts_them():
    rng = np.random.default_rng(0)
    p_values = [difference(*evaluations([0, 0], 1.0, rng).values()).p_value for _ in range(300)]
    assert abs(np.mean(np.array(p_values) < 0.5) - 0.5) < 0.09
    assert np.mean(np.array(p_values) < 0.05) < 0.09
    runs = evaluations([0, 0, 0, 2.0], 1.0, rng)
    gaps = all_differences(runs, ("total",))
    assert len(gaps) == 3 and gaps["run 3", "run 0", "total"].holm < 0.001
    for gap in gaps.values():
        assert gap.p_value <= gap.holm <= min(1.0, 3 * gap.p_value) + 1e-12
    alone = all_differences(dict(list(runs.items())[:2]), ("total",))
    assert next(iter(alone.values())).holm == next(iter(alone.values())).p_value


def bumped(rng, height):
    """Values of 200 images at stratified gammas in [0, 1], with a bump of `height` on [.5, .75]."""
    gammas = np.stack([(rng.permutation(200) + rng.random(200)) / 200 for _ in range(8)])
    values = height * ((gammas > 0.5) & (gammas < 0.75)) + 0.3 * rng.normal(size=gammas.shape)
    return bin_values(values[None], gammas[None], np.linspace(0.0, 1.0, 9), 1)


def test_the_band_that_made_a_difference():
    rng = np.random.default_rng(0)
    band = decisive_band(bumped(rng, 4.0))
    assert band.low == pytest.approx(0.5, abs=0.13) and band.high == pytest.approx(0.75, abs=0.13)
    assert band.is_certain and band.part == pytest.approx(1.0 / math.log(2.0), rel=0.1)
    assert decisive_band(bumped(rng, -4.0)).part < 0
    certain = [decisive_band(bumped(rng, 0.0)).is_certain for _ in range(60)]
    assert np.mean(certain) < 0.14  # 5 % by chance, whichever band was chosen


def test_bands_of_a_profile_hold_all_bins_at_once():
    rng, hits, single = np.random.default_rng(0), 0, []
    truth = np.array([0, 0, 0, 0, 1, 1, 0, 0]) * 2.0 / math.log(2.0)
    for _ in range(200):
        curve = profile(bumped(rng, 2.0))
        gap = np.abs(curve.density - truth)
        hits += np.all(gap <= curve.simultaneous)
        single.append(np.mean(gap <= curve.pointwise))
    assert hits / 200 > 0.9 and abs(np.mean(single) - 0.95) < 0.03


def test_runs_with_a_gamma_per_pixel_have_no_common_gammas():
    with pytest.raises(
        ConfigError, match=r"PerPixel: runs are paired .* at equal gamma.*timesteps=T"
    ):
        make_paired_step(
            per_pixel.make_small(), Estimation(randomisations=1), (-7.0, 5.0), make_mesh(1)
        )
