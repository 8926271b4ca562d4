"""One gamma for every dimension of an image, and perhaps for every image.

    gamma_i(t) = (1 - r_i) gamma_0 + r_i gamma_1,   r_i(t) = F_i(0, t) / (F_i(0, t) + F_i(t, 1))

F_i(s, t) > 0 is the integral of a positive density, a `Form` with P numbers for dimension i. So
gamma_i increases strictly whatever the numbers, and meets both end points to the bit. All
dimensions have the same end points: reconstruction and prior are then known exactly, as for a
scalar schedule.

**The bound is a line integral.** In continuous time the denoising term is

    int_0^1 sum_i f_i(gamma(t)) dgamma_i/dt dt,   f_i(gamma) = 1/2 E (eps_i - eps_hat_i)^2

along the path t -> gamma(t) in R^D (MuLAN: Sahoo et al. 2023, arXiv:2312.13236, sec. 3). It
depends on the end points alone exactly where f is a gradient. It is one if eps_hat is a posterior
mean, E[eps | z, gamma], at every gamma: the integral is then I(x; z_0) - I(x; z_1), as f . dgamma
= -dI along any path (Guo et al. 2005, for one SNR). With a context c the same holds for each c,
provided that the network is told c. A network that is told only the mean of gamma can be a
posterior mean along one path, not on all of R^D, and moving the path moves its bound;
`experiments.studies.two_pixels` shows both. No trained network is quite a posterior mean, and the
bound of T steps depends on the path in any case. An interior per pixel therefore lowers the bound
itself, and is trained by its gradient, never by that of a variance.
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
        """Return the numbers [P] of a density that is uniform, or nearly so: gamma is then a line."""

    @abc.abstractmethod
    def mass(self, values: jax.Array, s: jax.Array, t: jax.Array, width: jax.Array) -> jax.Array:
        """Return F(s, t), the density's integral, without a difference of two close numbers.

        Args:
          values: the numbers of every dimension [B or 1, H or 1, W or 1, C, P].
          s: lower limits [B,1,1,1].
          t: upper limits [B,1,1,1].
          width: t - s, given because the difference of two float32 times is not exact [B,1,1,1].

        Returns:
          F(s, t), broadcastable to [B,H,W,C]; exactly 0 for width 0.
        """


@dataclasses.dataclass(frozen=True)
class Conditioner:
    """A network from the context c of an image to the shift of its weights, W2 swish(W1 c + b1).

    W2 starts at 0, so that all images start with the same schedule.

    Attributes:
      size: length K of a context.
      num_hidden: hidden features.
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
        """Return fresh parameters for weights of shape `weights_shape`; `key` is consumed."""
        first = jax.random.normal(key, (self.size, self.num_hidden)) / self.size**0.5
        second = jnp.zeros((self.num_hidden, *weights_shape))
        return {"w1": first, "b1": jnp.zeros(self.num_hidden), "w2": second}

    def shift(self, params: Params, context: jax.Array) -> jax.Array:
        """Return the shift of the weights, [B, size] -> [B, *weights_shape], float32."""
        # gamma must be float32: the default precision of a GPU or TPU keeps 8 to 11 bits.
        first = jnp.matmul(context.astype(jnp.float32), params["w1"], precision="highest")
        hidden = jax.nn.swish(first + params["b1"][None])
        return jnp.tensordot(hidden, params["w2"], 1, precision="highest")


@dataclasses.dataclass(frozen=True)
class PerPixel(Between):
    """A schedule with one gamma per dimension, as the top of this file defines it.

    Attributes:
      endpoints: gamma(0) and gamma(1) of all dimensions.
      form: the family of densities whose integral gives r(t).
      sharing: which dimensions have which numbers.
      conditioner: the network that makes the numbers depend on a context; None without a context.
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

    def init_interior(self, key):
        key_start, key_sharing, key_conditioner = jax.random.split(key, 3)
        start = self.form.start(key_start)
        interior = self.sharing.init(key_sharing, start)
        if self.conditioner is not None:
            sizes = self.sharing.weights_shape(start.size)
            interior["conditioner"] = self.conditioner.init(key_conditioner, sizes)
        return interior

    def share(self, interior, t, context=None):
        values = self._values(interior, context)
        before = self.form.mass(values, jnp.zeros_like(t), t, t)
        after = self.form.mass(values, t, jnp.ones_like(t), 1.0 - t)
        # Not before/whole: at t = 1 that is 1 only if two programs round alike.
        return before / (before + after)

    def share_rise(self, interior, s, t, num_timesteps, context=None):
        values = self._values(interior, context)
        zero, one = jnp.zeros_like(t), jnp.ones_like(t)
        rise = self.form.mass(values, s, t, jnp.full_like(t, 1.0 / num_timesteps))
        whole = self.form.mass(values, zero, one, one)
        return rise / whole, 1.0

    def _values(self, interior, context) -> jax.Array:
        """Return the numbers of every dimension, shifted by the context where the schedule has one."""
        if self.conditioner is None:
            return self.sharing.values(interior, jnp.zeros(()))
        if context is None:
            raise ConfigError(
                "schedule: it is conditional on a context of each image, and none was given; "
                "draw one with model.encode (q(c|x)) or model.sample_context (p(c))"
            )
        if context.ndim != 2 or context.shape[1] != self.conditioner.size:
            raise ConfigError(
                f"context {context.shape}: the schedule takes contexts [B, {self.conditioner.size}]"
            )
        shift = self.conditioner.shift(interior["conditioner"], context)
        return self.sharing.values(interior, shift)


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
    """Return the schedule that section schedule.`name` of a configuration describes.

    Args:
      name: the schedule's name, for messages.
      endpoints: gamma(0) and gamma(1), or where they start.
      form: the family of densities.
      shape: (H, W, C) of the images.
      sharing: a key of `vdm.schedules.per_pixel.sharing.SHARINGS`.
      rank: rank of a low-rank sharing; ignored by the others.
      learned_endpoints: whether the end points are parameters.
      conditioner: the network of a conditional schedule, or None.

    Raises:
      ConfigError: an unknown sharing, or a rank that the images do not admit.
    """
    ends = dataclasses.replace(endpoints, learned=learned_endpoints)
    shared = make_sharing("schedule", sharing, shape, rank)
    return PerPixel(ends, form, shared, conditioner)
