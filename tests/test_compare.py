"""Comparisons: common gammas give the bound that each run's own times give, differences by pairs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import compare
from vdm.data import base, batches
from vdm.devices import make_mesh
from vdm.evaluate import Evaluation, Sampling, evaluate, summarise
from vdm.model import make_model

SHAPE, LEVELS, NUM = (4, 4, 1), 17, 40


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = {n: rng.integers(0, LEVELS, (NUM, *SHAPE)) for n in ("train", "validation", "test")}
    return base.prepare("random", images, LEVELS, tmp_path_factory.mktemp("data"))


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
    sampling = Sampling(**{"randomisations": 16, **options})
    gammas, mesh = compare.common_range(runs), make_mesh()
    found = []
    for model, params in runs:
        step = compare.make_paired_step(model, sampling, gammas, mesh)
        data = batches.eval_batches(dataset, "test", NUM)
        found.append(evaluate(model, params, data, sampling, mesh, step=step))
    return found, gammas


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
        own = evaluate(model, params, data, Sampling(randomisations=64, seed=5), make_mesh())
        for name in ("reconstruction", "prior_matching", "denoising_matching", "total"):
            pair = [summarise(e)[name] for e in (evaluation, own)]
            error = math.hypot(*(row.monte_carlo_error for row in pair))
            assert abs(pair[0].mean - pair[1].mean) < 4 * error + 1e-6, name


def test_equal_denoisers_differ_by_exactly_zero_whatever_the_schedule(dataset):
    found, _ = paired(dataset, [make(dataset, "linear"), make(dataset, "cosine")])
    gap = compare.difference(*found)
    assert gap.mean == 0.0 and gap.interval == (0.0, 0.0)
    assert gap.identical and gap.shrinkage is None


def test_pairing_narrows_the_interval(dataset):
    found, _ = paired(dataset, [make(dataset, "linear"), make(dataset, "linear", seed=1)])
    gap = compare.difference(*found)
    assert gap.shrinkage > 1.2
    independent = paired(dataset, [make(dataset, "linear", seed=1)], seed=9)[0][0]
    independent = dataclasses.replace(independent, sampling=found[0].sampling)
    wide = compare.difference(found[0], independent)
    assert np.diff(wide.interval) > np.diff(gap.interval)


def test_difference_by_hand():
    def evaluation(values):
        nats = np.array([values]) * math.log(2.0)
        return Evaluation(np.arange(4), {"x": nats}, 1, Sampling(randomisations=1))

    gap = compare.difference(evaluation([3.0, 2.0, 5.0, 6.0]), evaluation([1.0, 1.0, 4.0, 2.0]))
    # Differences 2, 1, 1, 4: mean 2, variance 2; t with 3 degrees of freedom reaches 3.18245.
    assert gap.mean == pytest.approx(2.0)
    assert gap.interval[1] == pytest.approx(2.0 + 3.18245 * math.sqrt(2 / 4), rel=1e-5)
    assert gap.shrinkage == pytest.approx(math.sqrt((10 / 3 + 2) / 2)) and not gap.identical


def test_a_constant_difference_is_not_identity():
    one, other = (
        Evaluation(np.arange(4), {"x": np.full((1, 4), v)}, 1, Sampling(randomisations=1))
        for v in (2.0, 1.0)
    )
    gap = compare.difference(one, other)
    assert gap.mean > 1 and gap.shrinkage is None and not gap.identical


def test_one_image_has_no_interval():
    one = Evaluation(np.arange(1), {"x": np.array([[1.0]])}, 1, Sampling(randomisations=1))
    assert compare.difference(one, one).interval is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"index": np.array([1, 0])}, "other images"),
        ({"num_dims": 2}, "num_dims: 1 and 2"),
        ({"sampling": Sampling(seed=1)}, "sampling: .*seed=0.* and .*seed=1"),
    ],
)
def test_what_does_not_pair_is_refused(change, match):
    one = Evaluation(np.arange(2), {"x": np.ones((8, 2))}, 1, Sampling())
    with pytest.raises(ValueError, match=match):
        compare.difference(one, dataclasses.replace(one, **change))


def test_a_profile_needs_one_time_per_value():
    terms = {"denoising_matching": np.ones((8, 2))}
    with pytest.raises(ValueError, match="repeats=3"):
        compare.profile(Evaluation(np.arange(2), terms, 1, Sampling(repeats=3)), (-8.0, 5.0))


def test_intervals_cover_the_population_difference():
    """2,000 pairs of runs with a true difference of .1: 95 % within 1.5 %."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        shared, own = rng.normal(size=(1, 30)), rng.normal(size=(2, 1, 30))
        values = [(shared + o + m) * math.log(2.0) for o, m in zip(own, (0.1, 0.0), strict=True)]
        found = [Evaluation(np.arange(30), {"x": v}, 1, Sampling()) for v in values]
        low, high = compare.difference(*found).interval
        hits += low <= 0.1 <= high
    assert abs(hits / 2000 - 0.95) < 0.015


def test_profile_sums_to_the_term(dataset):
    (evaluation, other), gammas = paired(
        dataset, [make(dataset, "linear", -6.0, 3.0), make(dataset, "linear")]
    )
    for found in (evaluation, other):
        profile = compare.profile(found, gammas)
        total = np.sum(profile.density * np.diff(profile.edges))
        assert total == pytest.approx(summarise(found)["denoising_matching"].mean, rel=1e-9)
    narrow = compare.profile(evaluation, gammas)
    outside = (narrow.edges[1:] < -6.0) | (narrow.edges[:-1] > 3.0)
    assert outside.sum() > 3 and np.all(narrow.density[outside] == 0.0)
    assert np.all(narrow.density[~outside] > 0.0)


def test_common_range_holds_every_run(dataset):
    runs = [make(dataset, "linear", -6.0, 5.5), make(dataset, "learned_linear", -9.0, 3.0)]
    assert compare.common_range(runs) == (-9.0, 5.5)


def test_for_t_steps_the_own_schedule_counts(dataset):
    """At T = 10 two schedules are two models."""
    found, _ = paired(dataset, [make(dataset, "linear"), make(dataset, "cosine")], num_timesteps=10)
    assert abs(compare.difference(*found).mean) > 0.01
    assert jnp.isfinite(jnp.asarray(found[0].total)).all()
