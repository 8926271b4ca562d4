"""Evaluation: every image once, errors that cover, and nothing that depends on batches or devices."""

import math

import jax
import numpy as np
import pytest

from vdm.data import batches
from vdm.data.cache import prepared
from vdm.errors import ConfigError
from vdm.evaluation import evaluate
from vdm.evaluation.evaluate import Estimation
from vdm.models.vdm.make import make_model
from vdm.models.vdm.noise import evaluation_noise
from vdm.runtime.devices import make_mesh

SHAPE, LEVELS, NUM = (4, 4, 1), 17, 13


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = {n: rng.integers(0, LEVELS, (NUM, *SHAPE)) for n in ("train", "validation", "test")}
    return prepared.prepare("random", images, LEVELS, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(dataset):
    return make_model(
        dataset.spec,
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": "learned_linear", "gamma_0": None, "gamma_1": None},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    )


@pytest.fixture(scope="module")
def params(model):
    fresh = model.init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(fresh)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [v + 0.1 * jax.random.normal(k, v.shape) for v, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def run(model, params, dataset, batch_size=NUM, **estimation):
    sampled = Estimation(**{"randomisations": 2, **estimation})
    found = batches.eval_batches(dataset, "test", batch_size)
    return evaluate.evaluate(model, params, found, sampled, make_mesh())


@pytest.mark.parametrize("num_timesteps", [0, 10])
def test_every_image_once_whatever_the_batch_size(model, params, dataset, num_timesteps):
    whole = run(model, params, dataset, num_timesteps=num_timesteps)
    assert whole.index.tolist() == list(range(NUM))
    for batch_size in (1, 4, 16):
        other = run(model, params, dataset, batch_size, num_timesteps=num_timesteps)
        assert other.index.tolist() == list(range(NUM))
        for name, values in whole.terms.items():
            np.testing.assert_allclose(other.terms[name], values, rtol=1e-5, atol=1e-5)


def test_more_randomisations_change_nothing_drawn_before(model, params, dataset):
    few, many = (run(model, params, dataset, randomisations=n) for n in (2, 4))
    np.testing.assert_array_equal(few.total, many.total[:2])


def test_repeats_are_averaged_over_nested_times(model, params, dataset):
    once, thrice = (run(model, params, dataset, repeats=n, randomisations=40) for n in (1, 3))
    spread = [e.total.std(axis=0, ddof=1).mean() for e in (once, thrice)]
    assert spread[1] < 0.75 * spread[0]
    summary = [evaluate.summarise(e)["total"] for e in (once, thrice)]
    errors = math.hypot(*(s.monte_carlo_error for s in summary))
    assert abs(summary[0].mean - summary[1].mean) < 4 * errors


def test_seed_changes_the_noise(model, params, dataset):
    one, other = (run(model, params, dataset, seed=n) for n in (0, 1))
    assert not np.any(one.total == other.total)


def test_total_is_the_sum_of_terms(model, params, dataset):
    summary = evaluate.summarise(run(model, params, dataset))
    parts = [row.mean for name, row in summary.items() if name != "total"]
    assert math.isclose(sum(parts), summary["total"].mean, rel_tol=1e-6)


def test_even_times_make_the_error_over_images_smaller_than_their_scatter(model, params, dataset):
    """The scatter of per-image means takes the Monte Carlo part for independent."""
    evaluation = run(model, params, dataset, randomisations=16)
    per_image = evaluation.total.mean(axis=0) / (math.log(2.0) * evaluation.num_dims)
    found = evaluate.summarise(evaluation)["total"]
    assert found.standard_error < per_image.std(ddof=1) / math.sqrt(NUM)
    assert found.interval[0] < found.mean < found.interval[1]


def test_one_randomisation_is_not_an_error_of_zero(model, params, dataset):
    summary = evaluate.summarise(run(model, params, dataset, randomisations=1))
    assert summary["total"].monte_carlo_error is None
    assert "not estimated" in evaluate.format_table(summary)


@pytest.mark.parametrize("field", ["repeats", "randomisations"])
def test_bad_sampling(field):
    with pytest.raises(ConfigError, match=f"{field}=0"):
        Estimation(**{field: 0})


def test_padding_never_reaches_the_result(model, params, dataset):
    """Garbage in the padding of the last batch changes no value."""
    clean = list(batches.eval_batches(dataset, "test", 8))
    last = clean[-1]
    images = np.where(last.mask[:, None, None, None], last.images, LEVELS - 1 - last.images)
    spoilt = [*clean[:-1], last.replace(images=images)]
    estimation = Estimation(randomisations=2)
    results = [
        evaluate.evaluate(model, params, found, estimation, make_mesh())
        for found in (clean, spoilt)
    ]
    np.testing.assert_array_equal(results[0].total, results[1].total)


def test_times_of_an_evaluation_are_those_it_drew(model):
    """The error takes away what values share in time: the times must be the ones behind them."""
    index = np.array([3, 0, 7])
    found = model.evaluation_times(4, 2, 3, index)
    for repeat, randomisation in np.ndindex(2, 3):
        noise = evaluation_noise(4, randomisation, repeat, index, (1, 1, 1))
        np.testing.assert_array_equal(found[repeat, randomisation], noise.times)
