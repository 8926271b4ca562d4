"""One gamma for every dimension of an image, and perhaps for every image.

    gamma_i(t) = (1 - r_i) gamma_0 + r_i gamma_1,   r_i(t) = F_i(0, t) / (F_i(0, t) + F_i(t, 1))

F_i(s, t) > 0 is the integral of a positive density, a `Form` with numbers of its own for dimension i.
So gamma_i increases strictly whatever the numbers, and meets both end points to the bit. Those are the
same for all dimensions: reconstruction and prior are then known exactly, as for a scalar schedule.

**The bound is a line integral.** In continuous time the denoising term is

    int_0^1 sum_i f_i(gamma(t)) dgamma_i/dt dt,   f_i(gamma) = 1/2 E (eps_i - eps_hat_i)^2

along the path t -> gamma(t) in R^D (Sahoo et al. 2024, sec. 3). It depends on the end points alone
exactly where f is a gradient. It is one if eps_hat is a posterior mean, E[eps | z, gamma], at every
gamma: the integral is then I(x; z_0) - I(x; z_1), as f . dgamma = -dI along any path (Guo et al. 2005,
for one SNR). With a context c the same holds for each c, of a network that is also told c. A network
that is told the mean of gamma alone can be a posterior mean along one path, not on all of R^D, and
moving the path moves its bound; `experiments.studies.two_pixels` shows both. No trained network is
quite a posterior mean, and T steps depend on the path in any case: so a shape has a bound to lower, and
its gradient is the bound's own, never that of a variance.
"""

import abc
import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vdm.errors import ConfigError
from vdm.schedules.between import Between
from vdm.schedules.endpoints import Endpoints
from vdm.schedules.per_pixel.sharing import Sharing, make_sharing
from vdm.types import Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class Form(abc.ABC):
    """A family of positive densities on [0, 1], each described by P numbers."""

    @abc.abstractmethod
    def start(self, key: PRNGKey) -> jax.Array:
        """Numbers [P] of the straight line, or nearly so."""

    @abc.abstractmethod
    def mass(self, values: jax.Array, s: jax.Array, t: jax.Array, width: jax.Array) -> jax.Array:
        """F(s, t) for t - s = `width`, without a difference of two close numbers.

        `values` [...,P] and s, t, width [B,1,1,1] give [B,H,W,C]; exactly 0 for width 0.
        """


@dataclasses.dataclass(frozen=True)
class Conditioner:
    """A context c of an image -> the shift of its weights, W2 swish(W1 c + b1).

    W2 starts at 0: at first no image's schedule differs.

    Attributes:
      size: of a context.
      num_hidden: features between.
    """

    size: int
    num_hidden: int

    def __post_init__(self):
        if self.size < 1:
            raise ConfigError(
                "schedule: a conditional schedule needs a context; choose context.name=gaussian or "
                "categorical, or an unconditional schedule"
            )
        if self.num_hidden < 1:
            raise ConfigError(f"schedule: num_hidden={self.num_hidden}: must be at least 1")

    def init(self, key: PRNGKey, weights_shape: tuple[int, ...]) -> Params:
        """Fresh parameters."""
        first = jax.random.normal(key, (self.size, self.num_hidden)) / self.size**0.5
        second = jnp.zeros((self.num_hidden, *weights_shape))
        return {"w1": first, "b1": jnp.zeros(self.num_hidden), "w2": second}

    def shift(self, params: Params, context: jax.Array) -> jax.Array:
        """[B, size] -> [B, *weights_shape], float32."""
        first = jnp.matmul(context.astype(jnp.float32), params["w1"], precision="highest")
        hidden = jax.nn.swish(first + params["b1"][None])
        return jnp.tensordot(hidden, params["w2"], 1, precision="highest")


@dataclasses.dataclass(frozen=True)
class PerPixel(Between):
    """See the module.

    Attributes:
      endpoints: gamma(0) and gamma(1) of all dimensions.
      form: of r(t).
      sharing: which dimensions have which numbers.
      conditioner: what a context does; None = no context.
    """

    form: Form
    sharing: Sharing
    conditioner: Conditioner | None = None

    @property
    def image_shape(self):
        return self.sharing.shape

    @property
    def context_size(self):
        return 0 if self.conditioner is None else self.conditioner.size

    def init_shape(self, key):
        key_start, key_sharing, key_conditioner = jax.random.split(key, 3)
        start = self.form.start(key_start)
        shape = self.sharing.init(key_sharing, start)
        if self.conditioner is not None:
            sizes = self.sharing.weights_shape(start.size)
            shape["conditioner"] = self.conditioner.init(key_conditioner, sizes)
        return shape

    def share(self, shape, t, context=None):
        values = self._values(shape, context)
        before = self.form.mass(values, jnp.zeros_like(t), t, t)
        after = self.form.mass(values, t, jnp.ones_like(t), 1.0 - t)
        # Not before/whole: at t = 1 that is 1 only if two programs round alike.
        return before / (before + after)

    def share_rise(self, shape, s, t, num_timesteps, context=None):
        values = self._values(shape, context)
        zero, one = jnp.zeros_like(t), jnp.ones_like(t)
        rise = self.form.mass(values, s, t, jnp.full_like(t, 1.0 / num_timesteps))
        whole = self.form.mass(values, zero, one, one)
        return rise / whole, 1.0

    def _values(self, shape, context) -> jax.Array:
        if self.conditioner is None:
            return self.sharing.values(shape, jnp.zeros(()))
        if context is None:
            raise ConfigError(
                "schedule: it is conditional on a context of each image, and none was given; "
                "draw one with model.encode (q(c|x)) or model.sample_context (p(c))"
            )
        if context.ndim != 2 or context.shape[1] != self.conditioner.size:
            raise ConfigError(
                f"context {context.shape}: the schedule takes contexts [B, {self.conditioner.size}]"
            )
        shift = self.conditioner.shift(shape["conditioner"], context)
        return self.sharing.values(shape, shift)


def make_per_pixel(
    name: str,
    endpoints: Endpoints,
    form: Form,
    shape: Sequence[int],
    sharing: str,
    rank: int,
    learned_endpoints: bool,
    conditioner: Conditioner | None = None,
) -> PerPixel:
    """The schedule that section schedule.`name` of a configuration describes, for images of `shape`."""
    ends = dataclasses.replace(endpoints, learned=learned_endpoints)
    shared = make_sharing("schedule", sharing, shape, rank)
    return PerPixel(ends, form, shared, conditioner)
