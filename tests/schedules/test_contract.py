"""What every schedule promises; a new name in SCHEDULES is tested without a change here."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import ConfigError
from vdm.schedules import SCHEDULES, Endpoints, Schedule, make_schedule
from vdm.schedules.base import endpoints, gamma_and_derivative
from vdm.schedules.between import Between

PIXELS: dict = {"shape": (2, 3, 1)}
CONDITIONAL = {**PIXELS, "context_size": 3, "num_hidden": 4}
OPTIONS: dict[str, dict] = {
    "pixel_polynomial": PIXELS,
    "pixel_network": {**PIXELS, "num_features": 3},
    "conditional_polynomial": CONDITIONAL,
    "conditional_network": {**CONDITIONAL, "num_features": 3},
}
"""Options by name, for a schedule that cannot do without."""
CONTEXTS: dict[str, jax.Array] = {
    name: jnp.array([[0.5, -1.0, 2.0]])
    for name in ("conditional_polynomial", "conditional_network")
}
"""A context of one image by name, for a schedule that needs one."""
ENDS = (-13.3, 5.0)
NOISE = 2e-6
"""Of one float32 gamma up to 24 in size: half a unit in the last place, twice."""


@dataclasses.dataclass
class Case:
    """A schedule with parameters; supplies its context, if any, whatever the batch size."""

    name: str
    schedule: Schedule
    params: dict

    def context(self, batch: int):
        one = CONTEXTS.get(self.name)
        return None if one is None else jnp.broadcast_to(one, (batch, *one.shape[1:]))

    def gamma(self, params, t):
        return compiled_gamma(self.schedule, params, t, self.context(len(t)))

    def gamma_and_derivative(self, params, t):
        return compiled_derivative(self.schedule, params, t, self.context(len(t)))

    def increment(self, step, num_timesteps):
        context = self.context(len(step))
        return self.schedule.gamma_increment(self.params, step, num_timesteps, context)


# One program each: operation by operation, every one is compiled for every shape.
compiled_gamma = jax.jit(
    lambda s, params, t, context: s.gamma(params, t, context), static_argnums=0
)
compiled_derivative = jax.jit(gamma_and_derivative, static_argnums=0)


def make(name: str, ends: tuple[float, float], learned: bool) -> Schedule:
    return make_schedule(name, Endpoints(*ends, learned=learned), OPTIONS.get(name))


@functools.cache
def make_case(name: str, ends: tuple[float, float], learned: bool) -> Case:
    schedule = make(name, ends, learned)
    return Case(name, schedule, jax.jit(schedule.init)(jax.random.key(0)))


def make_cases() -> dict[str, tuple[str, bool]]:
    """All schedules with fixed and learned end points, without doubles."""
    cases, seen = {}, []
    for name in SCHEDULES:
        for learned in (False, True):
            schedule = make(name, ENDS, learned)
            if schedule not in seen:
                seen.append(schedule)
                params = jax.eval_shape(schedule.init, jax.random.key(0))
                ends = "learned" if "endpoints" in params else "fixed"
                cases[f"{name}-{ends}"] = (name, learned)
    return cases


CASES = make_cases()


@pytest.fixture(params=CASES)
def case(request):
    name, learned = CASES[request.param]
    return make_case(name, ENDS, learned)


def as_f64(x) -> np.ndarray:
    return np.asarray(x, np.float64)


def test_gamma_is_float32_and_broadcasts_to_a_latent(case):
    value = case.gamma(case.params, jnp.linspace(0.0, 1.0, 5))
    assert value.dtype == jnp.float32
    assert value.ndim == 4 and value.shape[0] == 5


def test_times_of_less_precision_are_computed_in_float32(case):
    t = jnp.linspace(0.0, 1.0, 50).astype(jnp.bfloat16)
    expected = case.gamma(case.params, t.astype(jnp.float32))
    np.testing.assert_array_equal(case.gamma(case.params, t), expected)


def test_gamma_increases_strictly(case):
    values = as_f64(case.gamma(case.params, jnp.linspace(0.0, 1.0, 2001)))
    assert (np.diff(values, axis=0) > 0).all()


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("ends", [ENDS, (-24.0, 24.0), (-7.876, 0.1), (23.8, 23.95), (-0.3, 7e-3)])
@pytest.mark.parametrize("key", CASES)
def test_end_points_are_exact_to_the_bit(key, ends, jit):
    name, learned = CASES[key]
    case = make_case(name, ends, learned)
    gamma = lambda p, t: case.schedule.gamma(p, t, case.context(1))  # noqa: E731
    function = lambda p: (  # noqa: E731
        endpoints(case.schedule, p, case.context(1)),
        (gamma(p, jnp.zeros(1)), gamma(p, jnp.ones(1))),
    )
    # A schedule may know its end points without gamma, which must agree.
    for gamma_0, gamma_1 in (jax.jit(function) if jit else function)(case.params):
        assert gamma_0.dtype == gamma_1.dtype == jnp.float32
        assert (gamma_0 == np.float32(ends[0])).all() and (gamma_1 == np.float32(ends[1])).all()


def test_derivative_agrees_with_finite_differences(case):
    t, h = jnp.linspace(0.02, 0.98, 25), 2.0**-7
    gamma = lambda t: as_f64(case.gamma(case.params, t))  # noqa: E731
    central = lambda h: (gamma(t + h) - gamma(t - h)) / (2 * h)  # noqa: E731
    expected = (4 * central(h / 2) - central(h)) / 3  # errs by h^4, and by 2 NOISE/h
    value, derivative = case.gamma_and_derivative(case.params, t)
    np.testing.assert_allclose(value, case.gamma(case.params, t), rtol=0, atol=NOISE)
    assert derivative.shape == value.shape and derivative.dtype == jnp.float32
    np.testing.assert_allclose(derivative, expected, rtol=2e-3, atol=4 * NOISE / h)


@pytest.mark.parametrize("what", [0, 1], ids=["gamma", "derivative"])
def test_gradients_agree_with_finite_differences(case, what):
    if not jax.tree.leaves(case.params):
        assert case.params == {}  # a fixed schedule has nothing to train
        return
    t, weight = jnp.linspace(0.0, 1.0, 7), jnp.linspace(-1.0, 2.0, 7)[:, None, None, None]
    loss = jax.jit(lambda p: jnp.sum(weight * case.gamma_and_derivative(p, t)[what]))
    grads = jax.jit(jax.grad(loss))(case.params)
    leaves = zip(*map(jax.tree.leaves, (case.params, grads)), strict=True)
    for i, (leaf, slope) in enumerate(leaves):
        direction = jax.random.normal(jax.random.key(i), leaf.shape)
        direction /= jnp.linalg.norm(direction)  # a small step, however many the parameters
        moved = [loss(replace_leaf(case.params, i, leaf + h * direction)) for h in (0.01, -0.01)]
        expected = (float(moved[0]) - float(moved[1])) / 0.02
        assert np.isfinite(slope).all()
        # 4e-3: the loss sums seven numbers of size 20 in float32, divided by 0.02.
        assert float(jnp.sum(slope * direction)) == pytest.approx(expected, rel=1e-2, abs=4e-3)


def replace_leaf(tree, position, leaf):
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten([leaf if i == position else x for i, x in enumerate(leaves)])


@pytest.mark.parametrize("num_timesteps", [1, 10, 1000, 100_000])
def test_increments_add_up_to_differences_of_gamma(case, num_timesteps):
    """Summed in float64; without a closed form an increment may drown in float32 noise."""
    kind = type(case.schedule)
    closed = kind.gamma_increment not in (Schedule.gamma_increment, Between.gamma_increment)
    closed = closed or getattr(kind, "share_rise", None) not in (None, Between.share_rise)
    num_blocks = min(num_timesteps, 10)  # one after the other, to spare the memory
    steps = jnp.arange(1, num_timesteps + 1).reshape(num_blocks, -1)
    increment = jax.jit(lambda block: case.increment(block, num_timesteps))
    increments = np.stack([as_f64(increment(block)) for block in steps])
    assert increments.ndim == 5 and increments.shape[:2] == steps.shape
    if closed or num_timesteps <= 1000:
        assert (increments > 0).all()
    blocks = increments.sum(axis=1)
    ends = as_f64(case.gamma(case.params, jnp.arange(num_blocks + 1) / num_blocks))
    np.testing.assert_allclose(blocks, np.diff(ends, axis=0), rtol=1e-6, atol=2 * NOISE)
    whole = as_f64(np.float32(ENDS[1])) - as_f64(np.float32(ENDS[0]))
    np.testing.assert_allclose(blocks.sum(axis=0), whole, rtol=1e-6)


@pytest.mark.parametrize(
    "ends", [(5.0, -13.0), (1.0, 1.0), (-100.0, 100.0), (30.0, 40.0), (-50.0, -40.0), (23.99, 24.0)]
)
def test_project_puts_end_points_in_order_and_range(case, ends):
    project = case.schedule.project
    if "endpoints" not in case.params:
        assert project(case.params) == case.params
        return
    wrong = {"gamma_0": jnp.float32(ends[0]), "gamma_1": jnp.float32(ends[1])}
    projected = project({**case.params, "endpoints": wrong})
    gamma_0, gamma_1 = (float(projected["endpoints"][n]) for n in ("gamma_0", "gamma_1"))
    assert -24 <= gamma_0 and gamma_1 <= 24 and gamma_1 - gamma_0 > 0.0999
    values = as_f64(case.gamma(projected, jnp.linspace(0.0, 1.0, 101)))
    assert (np.diff(values, axis=0) > 0).all()
    assert jax.tree.all(jax.tree.map(jnp.array_equal, project(projected), projected))


def test_project_leaves_valid_parameters_alone(case):
    projected = case.schedule.project(case.params)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, projected, case.params))


def test_parameters_have_only_the_branches_that_training_knows(case):
    assert set(case.params) <= {"endpoints", "shape"}


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_unknown_option_is_named(name):
    options = {**OPTIONS.get(name, {}), "wobble": 3}
    with pytest.raises(ConfigError, match=rf"schedule\.{name}\.wobble=3: no such option; .+"):
        make_schedule(name, Endpoints(*ENDS), options)


def test_an_unknown_name_lists_the_choices():
    listed = ", ".join(sorted(SCHEDULES))
    message = f"schedule.name='cosin': no such schedule; choose one of {listed}"
    with pytest.raises(ConfigError, match=message):
        make_schedule("cosin", Endpoints(*ENDS))
