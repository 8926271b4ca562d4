"""Times and noise: strata, uniformity, low discrepancy, and dependence on nothing but the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vdm.models.vdm import noise

SHAPE = (2, 3, 1)
SIZES = [1, 3, 49, 128, 1000]


def times_of(num_keys: int, batch_size: int) -> np.ndarray:
    """Stratified times for several keys, float64 [keys, B]."""
    draw = jax.jit(jax.vmap(lambda key: noise.stratified_times(key, batch_size)))
    return np.asarray(draw(jax.random.split(jax.random.key(0), num_keys)), np.float64)


@pytest.mark.parametrize("batch_size", SIZES)
def test_every_stratum_of_the_batch_is_hit_once(batch_size):
    times = times_of(20, batch_size)
    assert times.shape == (20, batch_size)
    strata = np.sort(np.floor(times * batch_size), axis=1)
    np.testing.assert_array_equal(strata, np.tile(np.arange(batch_size), (20, 1)))


@pytest.mark.parametrize("batch_size", SIZES)
def test_times_stay_below_one_at_the_largest_jitter(batch_size, monkeypatch):
    """(127 + u)/128 rounds to 1.0 in float32, which would be step T + 1."""
    largest = np.float32(1 - 2**-24)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, largest))
    times = noise.stratified_times(jax.random.key(0), batch_size)
    assert times.dtype == jnp.float32 and float(times.max()) < 1.0
    for num_timesteps in (1, 10, 1000, 100_000):
        assert int(noise.timestep(times, num_timesteps).max()) == num_timesteps


def test_jitter_is_uniform_within_its_stratum():
    """Kolmogorov-Smirnov over 16,000 draws, at a chance of 1e-3 to fail if uniform."""
    jitter = np.modf(times_of(1000, 16) * 16)[0]
    assert stats.kstest(jitter.ravel(), "uniform").pvalue > 1e-3


def test_strata_are_permuted_against_image_order():
    """Every image meets every stratum equally often: chi-square at a chance of 1e-3."""
    strata = np.floor(times_of(4000, 8) * 8).astype(int)
    for image in range(8):
        counts = np.bincount(strata[:, image], minlength=8)
        assert stats.chisquare(counts).pvalue > 1e-3
    # Neighbours share no stratum, so their correlation is -1/7; the error of 4000 draws is .016.
    assert np.corrcoef(strata[:, 0], strata[:, 1])[0, 1] == pytest.approx(-1 / 7, abs=0.064)


training_noise = jax.jit(noise.training_noise, static_argnums=(1, 2))


def test_training_noise_is_normal_and_its_parts_independent():
    drawn = training_noise(jax.random.key(3), 2000, SHAPE)
    eps, eps_0 = np.asarray(drawn.eps).ravel(), np.asarray(drawn.eps_0).ravel()
    assert drawn.eps.shape == drawn.eps_0.shape == (2000, *SHAPE) and drawn.times.shape == (2000,)
    for values in (eps, eps_0):
        assert stats.kstest(values, "norm").pvalue > 1e-3
    four_errors = 4 / np.sqrt(eps.size)
    assert abs(np.corrcoef(eps, eps_0)[0, 1]) < four_errors
    times = np.repeat(np.asarray(drawn.times), 6)
    assert abs(np.corrcoef(eps, times)[0, 1]) < four_errors


def test_training_noise_depends_on_its_key():
    one, same, other = (training_noise(jax.random.key(k), 4, SHAPE) for k in (1, 1, 2))
    for a, b, c in zip(*map(jax.tree.leaves, (one, same, other)), strict=True):
        assert (a == b).all() and not (a == c).any()


evaluation_noise = jax.jit(noise.evaluation_noise, static_argnums=(0, 4))


def evaluate(index, seed=0, randomisation=0, repeat=0) -> noise.Noise:
    return evaluation_noise(seed, randomisation, repeat, jnp.asarray(index), SHAPE)


def rows(drawn: noise.Noise, chosen) -> list[np.ndarray]:
    return [np.asarray(leaf)[np.asarray(chosen)] for leaf in jax.tree.leaves(drawn)]


def test_evaluation_noise_ignores_the_rest_of_the_batch():
    whole = evaluate(np.arange(40), 7, 2, 5)
    for chosen in ([3], [39, 3, 17, 17], list(range(40))[::-1]):
        part = rows(evaluate(chosen, 7, 2, 5), np.arange(len(chosen)))
        for a, b in zip(part, rows(whole, chosen), strict=True):
            np.testing.assert_array_equal(a, b)


def test_evaluation_noise_is_the_same_when_compiled_or_from_numpy():
    compiled = evaluate(np.arange(8), 1, 2, 3)
    eager = noise.evaluation_noise(1, 2, 3, np.arange(8, dtype=np.int32), SHAPE)
    for a, b in zip(jax.tree.leaves(compiled), jax.tree.leaves(eager), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("other", [{"seed": 1}, {"randomisation": 1}, {"repeat": 1}])
def test_evaluation_noise_depends_on_all_that_is_left(other):
    one, two = evaluate(np.arange(16)), evaluate(np.arange(16), **other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert not (a == b).any()


def test_seed_and_randomisation_are_not_exchangeable():
    pairs = [(0, 1), (1, 0), (1, 1), (0, 0)]
    firsts = {float(evaluate([0], *pair).eps.ravel()[0]) for pair in pairs}
    assert len(firsts) == 4


def test_evaluation_noise_is_normal_and_independent_between_images_and_repeats():
    one, two = evaluate(np.arange(2000)), evaluate(np.arange(2000), repeat=1)
    four_errors = 4 / np.sqrt(one.eps.size)
    pairs = [(one.eps, one.eps_0), (one.eps, two.eps), (one.eps[1:], one.eps[:-1])]
    for a, b in pairs:
        assert stats.kstest(np.asarray(a).ravel(), "norm").pvalue > 1e-3
        assert abs(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]) < four_errors


def evaluation_times(randomisations, repeats, images) -> np.ndarray:
    """[randomisations, repeats, images]"""
    index = jnp.asarray(images)
    draw = lambda m, r: noise.evaluation_noise(0, m, r, index, (1, 1, 1)).times  # noqa: E731
    over_both = jax.jit(jax.vmap(jax.vmap(draw, (None, 0)), (0, None)))
    return np.asarray(over_both(jnp.asarray(randomisations), jnp.asarray(repeats)), np.float64)


def test_times_of_every_image_are_uniform_over_randomisations():
    """Kolmogorov-Smirnov over 3000 randomisations, at a chance of 1e-3 each."""
    times = evaluation_times(np.arange(3000), [0, 7], [0, 1, 9_999])
    assert times.min() >= 0.0 and times.max() < 1.0
    for sample in times.reshape(3000, 6).T:
        assert stats.kstest(sample, "uniform").pvalue > 1e-3


def star_discrepancy(points) -> float:
    """The largest gap between the points' distribution and the uniform one."""
    return stats.kstest(np.ravel(points), "uniform").statistic


@pytest.mark.parametrize(
    ("repeats", "images", "limit"),
    [([0], np.arange(297), 0.3), (np.arange(297), [5], 0.3), ([3], np.arange(10_000), 0.06)],
)
def test_times_are_evenly_spread_over_images_and_over_repeats(repeats, images, limit):
    """Independent times have a discrepancy of about .87/sqrt(N), below .3/sqrt(N) once in 10^5."""
    for times in evaluation_times(np.arange(4), repeats, images):
        assert star_discrepancy(times) < limit / np.sqrt(times.size)


def test_few_images_with_many_repeats_are_evenly_spread_together():
    times = evaluation_times(np.arange(4), np.arange(16), np.arange(20))
    assert max(map(star_discrepancy, times)) < 0.35 / np.sqrt(320)


def test_times_follow_the_golden_ratio_in_two_dimensions():
    """Steps 1/p per image and 1/p^2 per repeat modulo 1, p^3 = p + 1; also at the largest indices."""
    p = np.roots([1, 0, -1, -1]).real.max()
    images, repeats = np.array([0, 1, 2, 50_000, 2**20]), np.array([0, 1, 99])
    times = evaluation_times([0], repeats, images)[0]
    expected = times[0, 0] + images[None, :] / p + repeats[:, None] / p**2
    error = np.abs(times - expected) % 1.0
    # The times have 24 bits, and the steps 32: at index 2^20 they are off by 2^-13.
    tolerance = 2**-24 + (images[None, :] + repeats[:, None]) * 2**-33
    assert (np.minimum(error, 1 - error) <= tolerance + 1e-9).all()


@pytest.mark.parametrize("num_timesteps", [1, 3, 10, 49, 1000, 100_000])
def test_every_step_is_hit_equally(num_timesteps):
    per_step = max(1, 1000 // num_timesteps)
    num = per_step * num_timesteps
    times = jnp.asarray((np.arange(num) + 0.5) / num, jnp.float32)
    steps = np.asarray(noise.timestep(times, num_timesteps))
    assert steps.dtype == np.int32
    np.testing.assert_array_equal(steps, np.repeat(np.arange(1, num_timesteps + 1), per_step))


@pytest.mark.parametrize("num_timesteps", [1, 10, 1000, 100_000, 2**24])
def test_the_last_step_takes_times_just_below_one(num_timesteps):
    times = jnp.asarray([0.0, 1.0 - 2.0**-24, 1.0], jnp.float32)
    assert noise.timestep(times, num_timesteps).tolist() == [1, num_timesteps, num_timesteps]
