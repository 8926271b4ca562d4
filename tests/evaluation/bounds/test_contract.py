"""Every registered bound: what may change its numbers, and what must not."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from tests import per_pixel
from vdm.errors import ConfigError
from vdm.evaluation import bounds
from vdm.evaluation.bounds import BOUNDS, base, make_bound
from vdm.evaluation.bounds.run import evaluate_bound
from vdm.evaluation.bounds.table import format_gaps, format_rows, gaps, table_rows
from vdm.evaluation.evaluate import Estimation
from vdm.evaluation.evaluate import evaluate as plain_evaluate
from vdm.evaluation.statistics.estimate import estimate
from vdm.models.base import Model
from vdm.models.records import Support
from vdm.runtime.devices import make_mesh
from vdm.schedules.linear import Linear
from vdm.types import ElboTerms

NUM = 13
OPTIONS = {
    "elbo": {"repeats": 2},
    "discrete": {"num_timesteps": 10, "repeats": 2},
    "dense": {"num_timesteps": 5},
    "consistency": {"num_timesteps": 5},
    "continuous": {"repeats": 2, "density": "fitted"},
    "iwae": {"num_timesteps": 5, "num_weights": 4},
    "ode": {"tolerance": 1e-4, "num_weights": 2},
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 17, (NUM, 4, 4, 1))


@pytest.fixture(scope="module")
def evaluate(small, images, batches_of):
    """`evaluate(name, batch_size, randomisations)`; each is evaluated once."""
    kept = {}

    def run(name, batch_size=NUM, randomisations=2, fresh=False):
        key = (name, batch_size, randomisations)
        if fresh or key not in kept:
            bound = make_bound(name, OPTIONS).fit(*small, images, make_mesh())
            found = batches_of(images, batch_size)
            kept[key] = evaluate_bound(bound, *small, found, make_mesh(), randomisations)
        return kept[key]

    return run


QUICK_AND_SLOW = [
    pytest.param(name, marks=pytest.mark.slow) if name == "ode" else name for name in BOUNDS
]
"""The ODE compiles longer than all others together; its quick tests: test_probability_flow.py."""


def test_options_cover_every_bound():
    assert set(OPTIONS) == set(BOUNDS)
    assert all(kind.name == name for name, kind in BOUNDS.items())


@pytest.mark.parametrize("name", QUICK_AND_SLOW)
def test_batch_size_and_padding_change_nothing(evaluate, name):
    whole, padded = evaluate(name), evaluate(name, 8)
    assert whole.index.tolist() == padded.index.tolist() == list(range(NUM))
    for row, values in whole.rows.items():
        assert values.shape[1] == NUM and np.isfinite(values).all()
        np.testing.assert_allclose(padded.rows[row], values, rtol=1e-5)
        assert padded.rows[row].mean() == pytest.approx(values.mean(), rel=1e-6)


@pytest.mark.parametrize("name", QUICK_AND_SLOW)
def test_again_gives_the_same_bits_and_more_randomisations_keep_them(evaluate, name):
    one, again = evaluate(name, randomisations=1), evaluate(name, randomisations=2, fresh=True)
    for row, values in one.rows.items():
        np.testing.assert_array_equal(again.rows[row][: len(values)], values)
        assert len(again.rows[row]) == 2 * len(values)
        assert not np.any(again.rows[row][len(values)] == values[0])
        np.testing.assert_array_equal(evaluate(name).rows[row], again.rows[row])


@pytest.mark.parametrize("name", ["dense", "consistency", "iwae"])
@pytest.mark.parametrize("at_once", [1, 1000])
def test_chunks_change_only_the_order_of_sums(evaluate, monkeypatch, name, at_once):
    whole = evaluate(name)
    for module in ("dense", "consistency", "importance"):
        monkeypatch.setattr(getattr(bounds, module), "images_at_once", lambda: at_once)
    for row, values in evaluate(name, fresh=True).rows.items():
        np.testing.assert_allclose(whole.rows[row], values, rtol=1e-5)


@pytest.mark.parametrize("name", BOUNDS)
def test_terms_add_up_and_costs_are_as_announced(evaluate, name):
    found = evaluate(name)
    if found.terms:
        (total,) = found.rows.values()
        np.testing.assert_allclose(sum(found.terms.values()), total, rtol=1e-12)
        assert (found.terms["prior_matching"] >= 0).all()
    each = found.bound.network_evaluations()
    if each is not None:
        assert (found.evaluations == each * found.randomisations).all()
    assert (found.evaluations > 0).all()


def test_terms_without_noise_are_the_same_for_every_bound(evaluate):
    """Reconstruction by quadrature; the prior in closed form, but for the consistency form's."""
    names = ("discrete", "dense", "consistency", "continuous")
    terms = [evaluate(name).terms for name in names]
    for term, own in zip(("reconstruction", "prior_matching"), (None, 2), strict=True):
        for i, other in enumerate(terms):
            assert i == own or np.ptp(other[term], axis=0).max() == 0
            if i != own:
                np.testing.assert_allclose(other[term], terms[0][term], rtol=1e-6)


def test_rows_of_one_bound_with_other_options_are_told_apart(evaluate, small, images, batches_of):
    one, batches = evaluate("continuous"), batches_of(images, NUM)
    other = evaluate_bound(make_bound("continuous:repeats=3"), *small, batches, make_mesh(), 2)
    assert {row.bound for row in table_rows([one])} == {"continuous"}
    assert (
        len({row.bound for row in table_rows([one, other])}) == 2 and len(gaps([one, other])) == 1
    )


@pytest.mark.parametrize("steps", [0, 10])
def test_the_plain_evaluation_is_bound_elbo(small, images, batches_of, steps):
    batches = batches_of(images, 8)
    bound = make_bound(f"elbo@{steps}:repeats=3")
    found = evaluate_bound(bound, *small, batches, make_mesh(), 2, seed=4)
    plain = plain_evaluate(*small, batches, Estimation(steps, 3, 2, seed=4), make_mesh())
    (total,) = found.rows.values()
    np.testing.assert_array_equal(total, plain.total)
    assert plain.estimate() == found.estimate(total) == plain.of_bound().estimate(total)


@dataclasses.dataclass(frozen=True)
class NoDiffusion(Model):
    """A family of which only the terms are known: they cost its images' mean, and noise."""

    family: ClassVar[str] = "plain"
    shape: tuple[int, int, int] = (4, 4, 1)
    num_levels: int = 17

    def init(self, key):
        return {"offset": np.float32(1.0)}

    def training_noise(self, key, batch_size):
        raise NotImplementedError

    def evaluation_noise(self, seed, randomisation, repeat, index):
        return 0.01 * (randomisation + index)

    def terms(self, params, batch, noise, *, train=False, dropout_key=None):
        mean = batch.images.mean(axis=(1, 2, 3)) + params["offset"]
        return ElboTerms(mean, 0.0 * mean, noise, 0.0 * mean)

    def supports(self):
        return Support()


def test_elbo_serves_every_family_and_a_t_only_where_it_is_free(images, batches_of):
    model, batches = NoDiffusion(), batches_of(images, 8)
    params = model.init(None)
    found = evaluate_bound(make_bound("elbo"), model, params, batches, make_mesh(), 2)
    assert found.times is None and found.bound.label == "elbo"
    expected = images.mean(axis=(1, 2, 3)) + 1.0 + 0.01 * np.arange(NUM)
    np.testing.assert_allclose(found.rows["continuous time"][0], expected, rtol=1e-6)
    for text, reason in (("elbo@10", "no T"), ("dense", "does not serve")):
        with pytest.raises(ConfigError, match=reason):
            evaluate_bound(make_bound(text), model, params, batches, make_mesh(), 1)


def test_errors_are_those_of_the_plain_evaluation(small, images, batches_of):
    """On the log-SNR line both are the same draws, and the same part shared in time is removed."""
    bound = make_bound("continuous", {"continuous": {"repeats": 2}})
    found = evaluate_bound(bound, *small, batches_of(images, NUM), make_mesh(), 8)
    estimation = Estimation(repeats=2, randomisations=8)
    plain = plain_evaluate(*small, batches_of(images, NUM), estimation, make_mesh())
    one, other = found.estimate(found.rows["continuous time"]), plain.estimate()
    assert one.mean == pytest.approx(other.mean, rel=1e-5)
    assert one.standard_error == pytest.approx(other.standard_error, rel=1e-3)
    assert one.monte_carlo_error == pytest.approx(other.monte_carlo_error, rel=1e-3)
    naive = estimate(found.rows["continuous time"], found.num_dims)
    assert one.degrees_of_freedom == pytest.approx(other.degrees_of_freedom, rel=1e-3)
    assert one.degrees_of_freedom != pytest.approx(naive.degrees_of_freedom, rel=1e-2)


def test_table_is_ordered_with_the_other_model_last(evaluate):
    rows = table_rows([evaluate(name) for name in ("ode", "iwae", "dense")])
    assert [row.bound for row in rows[-1:]] == ["ode"]
    means = [row.estimate.mean for row in rows[:-1]]
    assert means == sorted(means, reverse=True) and len(rows) == 5
    text = format_rows(rows)
    assert "K = 4" in text and "* the likelihood of another model" in text
    # Eight groups of K = 1 give an error, two of K = 4 none.
    errors = {row.row: row.estimate.monte_carlo_error for row in rows}
    assert errors["T = 5, K = 1"] is not None and errors["T = 5, K = 4"] is None
    assert "not estimated" in text


def test_differences_pair_images_of_neighbouring_rows(evaluate):
    found = [evaluate(name) for name in ("ode", "discrete", "continuous")]
    (gap,) = gaps(found)
    values = [next(iter(f.rows.values())) for f in found[1:]]
    loose, tight = sorted(values, key=lambda v: -v.mean())
    assert gap.estimate.mean == pytest.approx((loose - tight).mean() / 16 / np.log(2))
    assert "minus" in format_gaps([gap]) and format_gaps([]) == ""


@pytest.mark.parametrize("randomisations", [1, 8])
def test_pairing_removes_what_images_have_in_common(evaluate, randomisations):
    """Images differ by 1, the two bounds by .1 +- .01: the error is that of the difference."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, NUM))
    rows = [images + offset + 0.01 * rng.normal(size=(8, NUM)) for offset in (5.1, 5.0)]
    found = [evaluate(name) for name in ("discrete", "continuous")]
    sizes = (8, randomisations)
    found = [
        dataclasses.replace(f, rows={"row": row[:size]}, num_dims=1)
        for f, row, size in zip(found, rows, sizes, strict=True)
    ]
    (gap,) = gaps(found)
    assert gap.estimate.mean * np.log(2) == pytest.approx(0.1, abs=0.02)
    assert gap.estimate.standard_error < 0.02 * table_rows(found)[0].estimate.standard_error


@dataclasses.dataclass(frozen=True)
class PerPixel(Linear):
    """A straight line with a steeper start in every other pixel."""

    def gamma(self, params, t, context=None):
        tilt = 1.0 + 0.01 * (np.arange(16, dtype=np.float32) % 2).reshape(1, 4, 4, 1)
        return super().gamma(params, t) * tilt

    def gamma_increment(self, params, step, num_timesteps, context=None):
        return super(Linear, self).gamma_increment(params, step, num_timesteps)


class Mean:
    """A denoiser that is told the mean gamma."""

    def __init__(self, module):
        self.module = module

    def apply(self, variables, z, time, *rest, **options):
        return self.module.apply(
            variables, z, time.mean(axis=(1, 2, 3), keepdims=True), *rest, **options
        )


@pytest.mark.parametrize("name", QUICK_AND_SLOW)
def test_one_gamma_per_pixel_is_served(small, images, batches_of, name):
    model, params = small
    model = dataclasses.replace(
        model, schedule=PerPixel(model.schedule.endpoints), denoiser=Mean(model.denoiser)
    ).with_reconstruction(expected=False)  # as a model with such a schedule is configured
    bound = make_bound(name, {**OPTIONS, "continuous": {"repeats": 2}})
    batches = batches_of(images, NUM)
    found = evaluate_bound(bound, model, params, batches, make_mesh(), 1)
    assert all(np.isfinite(values).all() for values in found.rows.values())


def test_a_fitted_density_needs_one_gamma_per_image(small):
    model, params = small
    model = dataclasses.replace(model, schedule=PerPixel(model.schedule.endpoints))
    with pytest.raises(ConfigError, match=r"density=fitted.*has one per pixel.*density=uniform"):
        make_bound("continuous", OPTIONS).check(model, params)


MISTAKES = {
    "name": ("elboo", {}, ["elboo", "elbo, discrete, dense, consistency, continuous, iwae, ode"]),
    "no number": ("dense@ten", {}, ["dense@ten", "dense@100"]),
    "T too small": ("dense@0", {}, ["dense@0", "1..1000000"]),
    "T too large": ("iwae@1000001", {}, ["iwae@1000001", "1..1000000"]),
    "no T": ("continuous@10", {}, ["bound=continuous@10", "takes no T"]),
    "repeats": ("discrete", {"discrete": {"repeats": 0}}, ["bound=discrete:repeats=0"]),
    "density": ("continuous", {"continuous": {"density": "best"}}, ["best", "uniform, fitted"]),
    "K": (
        "iwae",
        {"iwae": {"num_weights": 6}},
        ["bound=iwae:num_weights=6", "power of two in 1..4096"],
    ),
    "K, with T": ("iwae@100:num_weights=6", {}, ["bound=iwae@100:num_weights=6", "power of two"]),
    "option, with T": ("elbo@1000:foo=1", {}, ["bound=elbo@1000:foo=1", "repeats"]),
    "no integer, with T": ("iwae@7:num_weights=few", {}, ["bound=iwae@7:num_weights=few"]),
    "K too large": ("iwae", {"iwae": {"num_weights": 8192}}, ["8192", "1..4096"]),
    "K too small": ("ode", {"ode": {"num_weights": 0}}, ["bound=ode:num_weights=0"]),
    "solver": ("ode", {"ode": {"solver": "euler"}}, ["euler", "bosh3, dopri5, tsit5"]),
    "trace": ("ode", {"ode": {"trace": "none"}}, ["none", "exact, gaussian, rademacher"]),
    "dequantisation": (
        "ode",
        {"ode": {"dequantisation": "x"}},
        ["truncated, uniform, variational"],
    ),
    "tolerance": ("ode", {"ode": {"tolerance": 0.0}}, ["bound=ode:tolerance=0.0", "1e-7"]),
    "no option": ("dense:repeats=2", {}, ["dense:repeats=2", "none", "elbo, discrete, continuous"]),
    "no such option": ("iwae:k=2", {}, ["bound=iwae:k=2", "num_weights"]),
    "option by name": ("dense", {"dense": {"repeats": 2}}, ["dense:repeats=2", "continuous"]),
    "T as an option": ("dense:num_timesteps=5", {}, ["NAME@T"]),
    "not to be given": ("continuous:fitted=1", {}, ["continuous:fitted=1", "repeats, density"]),
    "no value": ("ode:trace", {}, ["trace", "option=value"]),
    "no integer": ("iwae:num_weights=few", {}, ["num_weights=few", "an integer"]),
    "given twice": ("iwae:num_weights=2:num_weights=4", {}, ["num_weights", "twice"]),
    "steps": ("ode", {"ode": {"max_steps": 0}}, ["bound=ode:max_steps=0"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case):
    text, options, parts = MISTAKES[case]
    with pytest.raises(ConfigError) as raised:
        make_bound(text, options)
    assert all(part in str(raised.value) for part in parts), raised.value


def test_options_in_the_text_go_before_those_beside_it():
    bound = make_bound(
        "ode:tolerance=1e-4:trace=exact", {"ode": {"tolerance": 1.0, "solver": None}}
    )
    assert bound == BOUNDS["ode"](tolerance=1e-4, trace="exact")
    assert make_bound("iwae@7:num_weights=4", OPTIONS).label == "iwae@7-num_weights_4"


def test_names_and_files_tell_options_apart():
    assert make_bound("dense").label == "dense@100"
    assert make_bound("iwae@7", {"iwae": {"num_weights": 4}}).label == "iwae@7-num_weights_4"
    assert make_bound("dense").facts() == {"bound": "dense", "num_timesteps": 100}
    assert base.MAX_TIMESTEPS < 2**24  # i/T stays exact in float32


_DEVICES = """
import sys
import numpy as np, jax
from vdm.runtime.devices import make_mesh
from vdm.evaluation.bounds import make_bound
from vdm.evaluation.bounds.run import evaluate_bound
from vdm.models.vdm.make import make_model
from vdm.types import Batch, DataSpec
OPTIONS = {options}
spec = DataSpec("random", (4, 4, 1), 17, {{"test": 16}}, "")
model = make_model(
    spec,
    {{"parameterisation": "eps", "reconstruction": "expected"}},
    {{"name": "learned_linear", "gamma_0": None, "gamma_1": None}},
    {{"name": "mlp", "mlp": {{"width": 8, "num_blocks": 1}}}},
)
params = model.init(jax.random.key(0))
images = np.random.default_rng(0).integers(0, 17, (16, 4, 4, 1))
batch = Batch(images, np.arange(16, dtype=np.int32), np.ones(16, bool), np.zeros(16, np.float32))
for name in OPTIONS:
    means = []
    for count in (1, 8):
        mesh = make_mesh(count)
        bound = make_bound(name, OPTIONS).fit(model, params, images, mesh)
        found = evaluate_bound(bound, model, params, [batch], mesh, 1)
        means.append([values.mean() for values in found.rows.values()])
    print(name, means)
    for other in means[1:]:
        np.testing.assert_allclose(other, means[0], rtol=1e-6)
print("same")
"""


@pytest.mark.slow
def test_one_and_eight_devices_agree(fork_python):
    done = fork_python(_DEVICES.format(options=repr(OPTIONS)), devices=8, timeout=280)
    assert done.stdout.endswith("same\n"), done.stdout


@pytest.mark.parametrize("name", ["dense", "iwae", pytest.param("ode", marks=pytest.mark.slow)])
def test_equal_gammas_give_the_bounds_of_a_scalar_one(name):
    options = {"dense": {"num_timesteps": 4}, "iwae": {"num_timesteps": 4, "num_weights": 2}}
    options["ode"] = {"tolerance": 1e-5}
    batch, found, schedule = per_pixel.make_batch(3), [], "pixel_polynomial"
    for model, params in zip(
        per_pixel.pair(schedule), per_pixel.paired_parameters(schedule, 0.1), strict=True
    ):
        bound = make_bound(name, options)
        found.append(evaluate_bound(bound, model, params, [batch], make_mesh(1), 1))
    for row, values in found[0].rows.items():
        # The ODE's time is t for one and gamma for the other: equal up to the solver's error.
        rtol = 1e-3 if name == "ode" else 1e-6
        np.testing.assert_allclose(values, found[1].rows[row], rtol=rtol)


@pytest.mark.parametrize("name", QUICK_AND_SLOW)
def test_every_bound_serves_a_context_and_charges_it(name):
    context = per_pixel.BITS if name in ("dense", "iwae") else per_pixel.GAUSSIAN
    model = dataclasses.replace(
        per_pixel.make_small("conditional_polynomial", context), denoiser=per_pixel.Smooth()
    )
    params, batch = per_pixel.shaken(model, 0.1), per_pixel.make_batch(3)
    options = {n: {"num_timesteps": 3} for n in ("discrete", "dense", "consistency", "iwae")}
    options["ode"], options["iwae"]["num_weights"] = {"tolerance": 1e-3}, 2
    found = evaluate_bound(make_bound(name, options), model, params, [batch], make_mesh(1), 2)
    assert all(np.isfinite(values).all() for values in found.rows.values())
    if found.terms:
        assert (found.terms["auxiliary"] > 0).all()
        np.testing.assert_array_equal(*found.terms["auxiliary"])  # exact: without noise
        np.testing.assert_allclose(sum(found.terms.values()), next(iter(found.rows.values())))


class Deaf(base.Bound):
    """A bound that knows nothing of contexts."""

    name = "deaf"

    def network_evaluations(self):
        return 0

    def make_step(self, model, seed, mesh):
        raise AssertionError("was run")


def test_a_bound_that_knows_nothing_of_contexts_is_refused():
    model = per_pixel.make_small("conditional_polynomial", per_pixel.GAUSSIAN)
    batches = [per_pixel.make_batch(2)]
    with pytest.raises(ConfigError, match=r"bound=deaf: takes no context.*conditional"):
        evaluate_bound(Deaf(), model, per_pixel.shaken(model), batches, make_mesh(1), 1)
