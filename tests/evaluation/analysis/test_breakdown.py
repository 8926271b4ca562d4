"""Breakdown of the bound by noise level and image: parts add up to an evaluation's total."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import per_pixel
from vdm.data import batches
from vdm.data.cache import prepared
from vdm.evaluation.analysis import breakdown
from vdm.evaluation.analysis.extremes import find_extremes
from vdm.evaluation.analysis.noise_levels import profile
from vdm.evaluation.evaluate import Estimation, Evaluation, evaluate
from vdm.evaluation.statistics.estimate import estimate
from vdm.models.vdm.elbo import elbo_terms
from vdm.models.vdm.make import make_model
from vdm.models.vdm.noise import all_evaluation_times, evaluation_noise
from vdm.runtime.devices import make_mesh


def evaluated(index, terms, num_dims, estimation):
    """An evaluation at the times of its images."""
    sizes = (estimation.seed, estimation.repeats, estimation.randomisations)
    times = np.asarray(all_evaluation_times(*sizes, jnp.asarray(index)))
    return Evaluation(index, terms, num_dims, estimation, times)


SHAPE, LEVELS, NUM = (4, 3, 2), 17, 21


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = {n: rng.integers(0, LEVELS, (NUM, *SHAPE)) for n in ("train", "validation", "test")}
    images["test"][..., 1] //= 4  # a channel of its own kind
    return prepared.prepare("random", images, LEVELS, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=["expected", "sampled"])
def run(request, dataset):
    model = make_model(
        dataset.spec,
        {"parameterisation": "eps", "reconstruction": request.param},
        {"name": "learned_linear", "gamma_0": None, "gamma_1": None},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    )
    shake = lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape)  # noqa: E731
    return model, jax.tree.map(shake, model.init(jax.random.key(0)))


@pytest.fixture(scope="module")
def found(run, dataset):
    estimation = Estimation(
        0 if run[0].expected_reconstruction else 10, repeats=2, randomisations=3
    )
    data = list(batches.eval_batches(dataset, "test", 8))
    mesh = make_mesh()
    return breakdown.break_down(*run, data, estimation, mesh), evaluate(
        *run, data, estimation, mesh
    )


@pytest.mark.slow
def test_maps_sum_to_the_terms_of_every_image(run, dataset):
    batch = next(iter(batches.eval_batches(dataset, "test", NUM)))
    noise = evaluation_noise(0, 0, 0, jnp.asarray(batch.index), SHAPE)
    for num_timesteps in (0, 10):
        maps = run[0].with_timesteps(num_timesteps).term_maps(run[1], batch, noise)
        terms = elbo_terms(*run, batch, noise, num_timesteps)
        for name in breakdown.MAPPED:
            assert getattr(maps, name).shape == (NUM, *SHAPE)
            summed = np.asarray(getattr(maps, name)).sum(axis=(1, 2, 3))
            np.testing.assert_allclose(summed, getattr(terms, name), rtol=2e-6, atol=1e-5)


def test_it_is_the_evaluation_with_the_same_noise(found):
    parts, whole = found
    assert parts.evaluation.index.tolist() == whole.index.tolist()
    for name, values in whole.terms.items():
        np.testing.assert_allclose(parts.evaluation.terms[name], values, rtol=2e-6, atol=1e-5)


def test_parts_average_and_integrate_back(found):
    parts, whole = found
    total = whole.estimate().mean
    for name in breakdown.MAPPED:
        assert parts.maps[name].bits.mean() == pytest.approx(whole.estimate(name).mean, rel=1e-5)
    channels = parts.per_channel()
    assert np.mean([c.mean for c in channels]) == pytest.approx(total, rel=1e-5)
    assert abs(channels[0].mean - channels[1].mean) > 3 * channels[0].standard_error
    labels = np.arange(NUM) % 3
    classes = breakdown.per_class(parts.evaluation, labels)
    weighted = sum(n * row.mean for n, row in classes.values()) / NUM
    assert [n for n, _ in classes.values()] == [7, 7, 7]
    assert weighted == pytest.approx(total, rel=1e-5)
    curve = profile(parts.binned)
    integral = np.sum(curve.density * np.diff(curve.edges))
    assert integral == pytest.approx(whole.estimate("denoising_matching").mean, rel=1e-5)
    assert np.all(curve.simultaneous >= curve.pointwise * 0.99)


def test_errors_of_a_map_are_those_of_each_dimension():
    """Batch by batch against all values at once."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 30, 2, 2, 1)) + 3 * rng.normal(size=(30, 2, 2, 1))
    sums = breakdown._Sums()
    for start in (0, 12, 25):
        sums.add(values[:, start : start + (12, 13, 5)[(0, 12, 25).index(start)]])
    result = sums.result()
    for place in np.ndindex(2, 2, 1):
        one = estimate(values[(slice(None), slice(None), *place)], 1)
        assert result.bits[place] == pytest.approx(one.mean)
        assert result.standard_error[place] == pytest.approx(one.standard_error)


def test_a_class_is_counted_by_its_own_images():
    terms = {"x": np.array([[1.0, 2.0, 30.0], [3.0, 2.0, 50.0]]) * math.log(2.0)}
    evaluation = evaluated(np.array([2, 0, 1]), terms, 1, Estimation(randomisations=2))
    # Positions 2, 0, 1 of the split have labels 7, 5, 9.
    classes = breakdown.per_class(evaluation, np.array([5, 9, 7]))
    assert {label: row.mean for label, (_, row) in classes.items()} == pytest.approx(
        {5: 2.0, 7: 2.0, 9: 40.0}
    )


def test_extremes_are_chosen_and_valued_apart():
    """Pure noise: the chosen images look extreme by what chose them, and not by what values them."""
    values = np.random.default_rng(0).normal(size=(8, 4000))
    evaluation = evaluated(np.arange(4000), {"x": values}, 1, Estimation())
    found = find_extremes(evaluation, 50)
    chosen = values[0::2].mean(axis=0)
    assert chosen[found.hardest].min() > 0.9 and chosen[found.easiest].max() < -0.9
    bits = np.array([found.bits[i] for i in found.hardest.tolist()])
    assert abs(bits.mean()) < 4 * 0.72 / math.sqrt(50)
    assert np.mean(list(found.error.values())) == pytest.approx(0.72, rel=0.1)
    whole = values[1::2].mean() / math.log(2.0)
    assert np.mean(list(found.bits.values())) == pytest.approx(whole)
    with pytest.raises(ValueError, match="randomisations=1"):
        find_extremes(evaluated(np.arange(2), {"x": values[:1, :2]}, 1, Estimation()), 1)


@pytest.mark.slow
def test_breaking_down_and_evaluating_charge_the_same_context():
    model, batch = (
        per_pixel.make_small("conditional_polynomial", per_pixel.GAUSSIAN),
        per_pixel.make_batch(3),
    )
    params, estimation = per_pixel.shaken(model), Estimation(randomisations=2)
    whole = evaluate(model, params, [batch], estimation, make_mesh(1))
    parts = breakdown.break_down(model, params, [batch], estimation, make_mesh(1))
    assert (whole.terms["auxiliary"] > 0).all()
    for name, values in whole.terms.items():
        np.testing.assert_allclose(parts.evaluation.terms[name], values, rtol=1e-4)
    channels = parts.channels.sum(axis=2)
    np.testing.assert_allclose(channels, parts.evaluation.total, rtol=1e-6)
