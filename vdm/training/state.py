"""The state that a training run carries from step to step."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from vdm.models.base import Model, ModelState
from vdm.types import Params, PRNGKey


@flax.struct.dataclass
class TrainState:
    """Everything that the next step depends on, besides the batch and the seed.

    Attributes:
      step: number of updates made, int32 [].
      params: the parameters being trained.
      ema_params: their exponential moving average, which evaluation uses.
      opt_state: the optimizer's state.
      time_density: the model's own state, see `Model.init_state`; None for a model without. It has
        the name of the first such state, a density of times, because checkpoints name arrays by
        path.
    """

    step: jax.Array
    params: Params
    ema_params: Params
    opt_state: optax.OptState
    time_density: ModelState = None


def init_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    key: PRNGKey,
) -> TrainState:
    """Return the state before step 0; `key` is consumed.

    Compile it with `jax.jit`: run operation by operation, a deep network takes minutes.

    Args:
      model: gives the parameters and its own state.
      optimizer: gives the state of all parameter groups.
      key: key of the initialisation.
    """
    params = model.init(key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        # The average starts as a copy, because the step donates both buffers.
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        time_density=model.init_state(),
    )


def ema_decay_at(step: jax.Array, decay: float) -> jax.Array:
    """Return min(decay, (1 + n)/(10 + n)): a young average forgets the initial parameters sooner."""
    step = step.astype(jnp.float32)
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))
