"""Measured variances and signals against populations that are known."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import per_pixel
from vdm.errors import ConfigError
from vdm.evaluation.analysis import estimator_variance
from vdm.evaluation.analysis.estimator_variance import Scatter
from vdm.models.vdm.model import VDM
from vdm.models.vdm.noise import stratified_times
from vdm.schedules import Endpoints, make_schedule
from vdm.types import Batch

ENDS = (-4.0, 3.0)


class Silent(nn.Module):
    """Predicts 0, so that L = 1/2 gamma' eps^2 for one pixel."""

    def __call__(self, z, time, known, train):
        return jnp.zeros_like(z)


def batches(count, size=64):
    images = np.full((size, 1, 1, 1), 1, np.uint8)
    flags = np.zeros(size, np.float32)
    mask = np.arange(size) < size - 2
    return [Batch(images, np.arange(size, dtype=np.int32), mask, flags) for _ in range(count)]


def measure(name, measured_under, times, num_draws=60, count=12):
    schedule = make_schedule(name, Endpoints(*ENDS))
    model = VDM((1, 1, 1), 4, schedule, Silent(), "eps", True, ENDS)
    params = {"schedule": schedule.init(jax.random.key(0)), "denoiser": {}}
    return estimator_variance.scatter(
        model, params, batches(count), measured_under, times, num_draws, 0
    )


def moments(name):
    """(E gamma'^2, (E gamma')^2) by quadrature."""
    t = (np.arange(100_000) + 0.5) / 100_000
    gamma = np.asarray(make_schedule(name, Endpoints(*ENDS)).gamma({}, jnp.asarray(t)), np.float64)
    slope = np.gradient(gamma.ravel(), t)
    return np.mean(slope**2), (ENDS[1] - ENDS[0]) ** 2


@pytest.mark.parametrize(
    ("name", "measured_under"), [("linear", "model"), ("cosine", "model"), ("cosine", "linear")]
)
def test_the_variance_of_independent_times(name, measured_under):
    """Var L = 1/4 (3 E gamma'^2 - (E gamma')^2), as E eps^4 = 3."""
    square, whole = moments(name if measured_under == "model" else "linear")
    exact = 0.25 * (3 * square - whole) / math.log(2) ** 2
    found = measure(name, measured_under, "iid")
    assert len(found.values) == 12 * 62  # padding counts for nothing
    interval = estimator_variance.mean_interval(found)
    error = (interval.high - interval.low) / 4
    assert abs(interval.value - exact) < 4 * error and error < 0.1 * exact


def test_stratified_times_leave_the_noise_s_part_alone():
    """On the line that is all: Var L = 1/4 gamma'^2 Var eps^2, whatever the times."""
    exact = 0.25 * 2 * (ENDS[1] - ENDS[0]) ** 2 / math.log(2) ** 2
    found = estimator_variance.mean_interval(measure("linear", "model", "stratified"))
    assert abs(found.value - exact) < 4 * (found.high - found.low) / 4
    steep = "ddpm_beta_linear"
    stratified = estimator_variance.mean_interval(measure(steep, "model", "stratified", count=24))
    square, whole = moments(steep)
    exact = 0.5 * square / math.log(2) ** 2
    iid = 0.25 * (3 * square - whole) / math.log(2) ** 2
    error = (stratified.high - stratified.low) / 4
    assert abs(stratified.value - exact) < 4 * error
    assert stratified.value < 0.85 * iid


def test_the_ratio_and_its_interval_cover():
    """Chi-square variances of ratio 3: the interval holds it about 95 times in 100."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        one, other = rng.chisquare(8, 60), 3 * rng.chisquare(8, 60)
        found = estimator_variance.ratio(Scatter(one, one), Scatter(other, other))
        hits += found.low < 3 < found.high
    assert 180 <= hits <= 199


def test_the_signal_in_gradients_of_known_mean_and_scatter():
    """g = mean + noise: |mean|^2 / tr Cov, by group; nothing where there is no mean."""
    mean = {"denoiser": {"a": jnp.full((50,), 0.3)}, "schedule": {"shape": {"b": jnp.zeros(20)}}}

    def gradient_fn(params, batch, noise, key):
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(noise, len(leaves))
        noisy = [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
        return structure.unflatten(noisy), {}

    keys = jax.random.split(jax.random.key(3), 64)
    found = estimator_variance.gradient_signal(
        gradient_fn, mean, [(0, k) for k in keys], jax.random.key(0)
    )
    assert set(found) == {"denoiser", "schedule/shape"}
    assert found["denoiser"].low < 0.09 < found["denoiser"].high
    assert found["denoiser"].high - found["denoiser"].low < 0.05
    assert found["schedule/shape"].value < 0.02


def test_a_batch_that_is_not_full_has_no_strata_of_its_own():
    """9 of 64 images would meet 9 of 64 strata at random: nearly independent times."""
    full = batches(3)
    short = full[0].replace(mask=np.arange(64) < 9)
    schedule = make_schedule("linear", Endpoints(*ENDS))
    model = VDM((1, 1, 1), 4, schedule, Silent(), "eps", True, ENDS)
    params = {"schedule": {}, "denoiser": {}}
    arguments = (model, params, [*full, short], "model")
    assert len(estimator_variance.scatter(*arguments, "stratified", 3, 0).values) == 3
    assert len(estimator_variance.scatter(*arguments, "iid", 3, 0).values) == 3 * 62 + 9


def test_padding_takes_no_stratum():
    """The times of the images alone fill the strata: padding would leave gaps."""
    seen = []

    def record(key, size):
        seen.append(size)
        return stratified_times(key, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(estimator_variance.TIMES, "stratified", record)
        measure("linear", "model", "stratified", num_draws=2, count=1)
    assert set(seen) == {62}


def test_a_gamma_that_depends_on_the_image_is_refused():
    model = per_pixel.make_small("conditional_polynomial", per_pixel.GAUSSIAN)
    batches = [per_pixel.make_batch(2)]
    message = "variance of the bound: needs one gamma per image.*PerPixel depends on the image"
    with pytest.raises(ConfigError, match=message):
        estimator_variance.scatter(model, per_pixel.shaken(model), batches, "model", "iid", 2, 0)
