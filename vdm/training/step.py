"""One training step: (state, batch) -> (state, metrics), pure."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vdm.models.base import Model
from vdm.models.means import Metrics
from vdm.models.records import ModelGradient
from vdm.runtime import devices
from vdm.seeds import stream_key
from vdm.training.state import TrainState, ema_decay_at
from vdm.types import Batch, Params

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
"""A step, or several in one call, see `several_steps`."""
SKIPPED = "skipped_steps"
"""Metric that is 1 for a step whose update was left out because a number was not finite, else 0."""


def make_train_step(
    model: Model,
    gradient_fn: ModelGradient,
    optimizer: optax.GradientTransformation,
    seed: int,
    ema_decay: float,
) -> TrainStep:
    """Return a pure step whose keys are folded from (seed, step): a resumed run repeats them.

    Where a metric or a gradient is not finite, the step changes nothing but its own number, and its
    metric SKIPPED is 1. The next step has other images and noise.

    Args:
      model: gives the noise and projects updated parameters.
      gradient_fn: the gradient, most often `sharded_gradient` of `model.gradient`.
      optimizer: the optimizer of all parameter groups.
      seed: seed of the run.
      ema_decay: decay of the averaged parameters per step, in [0, 1).
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(stream_key(seed, "training"), state.step)
        key_noise, key_dropout = jax.random.split(key)

        # Noise is drawn for the global batch, whatever the devices: their number changes no draw.
        noise = model.training_noise(key_noise, batch.images.shape[0])
        grads, model_state, metrics = gradient_fn(
            state.params, state.time_density, batch, noise, key_dropout
        )

        # Norms before clipping, which tell whether the limits bite.
        norms = {f"grad_norm/{name}": optax.tree.norm(g) for name, g in grads.items() if g}
        metrics = {**metrics, **norms}

        def update() -> TrainState:
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            # Projection comes before averaging: the average of valid parameters is what
            # evaluation sees.
            params = model.project(optax.apply_updates(state.params, updates))
            decay = ema_decay_at(state.step, ema_decay)
            ema_params = optax.incremental_update(params, state.ema_params, 1.0 - decay)
            return TrainState(state.step, params, ema_params, opt_state, model_state)

        # Decided by sums over the global batch, so that all devices and processes decide alike. A
        # branch, because XLA would merge a selection by `finite` into every kernel of the update.
        finite = jnp.stack([jnp.isfinite(m).all() for m in jax.tree.leaves(metrics)]).all()
        new_state = jax.lax.cond(finite, update, lambda: state)
        metrics[SKIPPED] = 1.0 - finite.astype(jnp.float32)
        return new_state.replace(step=state.step + 1), metrics

    return train_step


def sharded_gradient(gradient_fn: ModelGradient, mesh: Mesh, params: Params) -> ModelGradient:
    """Return `gradient_fn` with parameters gathered before it, and gradients split after it.

    Every device holds its part of the parameters (fully sharded data parallelism) but computes
    with all of them. Where nothing is split, the layouts are those JAX would find itself.

    Args:
      gradient_fn: the gradient of whole parameters.
      mesh: the mesh of devices.
      params: gives the shapes; may be abstract.
    """
    split = devices.state_shardings(params, mesh)
    batches = devices.batch_sharding(mesh)

    def sharded(params, state, batch, noise, dropout_key):

        # Stated for parameters and noise, because the compiler may choose other layouts for arrays
        # that no constraint names.
        whole = devices.constrain(params, devices.replicated(mesh))
        noise = devices.constrain(noise, batches)
        grads, state, metrics = gradient_fn(whole, state, batch, noise, dropout_key)
        return devices.constrain(grads, split), state, metrics

    return sharded


def several_steps(train_step: TrainStep) -> TrainStep:
    """Return a function that makes as many steps in one call as there are batches [K,B,...].

    It saves the host's work between calls, which counts for small models. Metrics are those of
    each step [K].
    """

    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(train_step, state, batches)

    return steps


def jit_train_step(
    train_step: TrainStep, mesh: Mesh, state: TrainState, several: bool = False
) -> TrainStep:
    """Return the step compiled over `mesh`, with the state donated and the batch split.

    Args:
      train_step: the step.
      mesh: the mesh of devices.
      state: gives the shapes; may be abstract.
      several: whether the step is one of `several_steps`, whose batches have a leading axis.
    """
    states = devices.state_shardings(state, mesh)
    return jax.jit(
        train_step,
        in_shardings=(states, devices.batch_sharding(mesh, int(several))),
        out_shardings=(states, devices.replicated(mesh)),
        donate_argnums=0,
    )
