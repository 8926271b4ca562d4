"""AdamW per parameter group, each with its own gradient clipping and learning rate."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from vdm.errors import choose
from vdm.types import Params

LearningRate = Callable[[jax.Array], jax.Array]
"""Number of updates made, an int32 scalar -> the learning rate."""


def _constant(fraction):
    """Return 1 throughout."""
    return jnp.ones_like(fraction)


def _linear(fraction):
    """Return a line from 1 to 0."""
    return 1.0 - fraction


def _cosine(fraction):
    """Return half a cosine wave from 1 to 0."""
    return 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))


DECAYS = {"constant": _constant, "linear": _linear, "cosine": _cosine}
"""Decays by name: fraction of training done, 0 to 1 -> factor of the learning rate."""


def learning_rate(peak: float, warmup_steps: int, decay: str, num_steps: int) -> LearningRate:
    """Return the rate peak * min(1, (n + 1)/warmup) * decay(n/num_steps) at step n.

    The warm-up starts at 1/warmup, not 0, so that no step is wasted.

    Args:
      peak: the largest learning rate.
      warmup_steps: steps of linear warm-up; 0 for none.
      decay: a key of DECAYS.
      num_steps: updates of the whole run.

    Raises:
      ConfigError: an unknown decay.
    """
    factor = choose("optimizer.decay", decay, DECAYS, "decay")

    def rate(step):
        step = jnp.asarray(step, jnp.float32)
        warmup = jnp.minimum(1.0, (step + 1.0) / max(warmup_steps, 1))
        return peak * warmup * factor(jnp.minimum(step / num_steps, 1.0))

    return rate


def clipped_adamw(
    rate: LearningRate | float, options: Mapping, clip_norm: float, decay_mask=None
) -> optax.GradientTransformation:
    """Return clipping by the group's global norm, followed by AdamW.

    Args:
      rate: learning rate, a constant or a function of the step.
      options: b1, b2, eps, weight_decay.
      clip_norm: largest global norm of the group's gradient; 0 never clips.
      decay_mask: parameters -> a tree of booleans, true where weight decay acts; None for
        everywhere.
    """
    adamw = optax.adamw(
        rate,
        b1=options["b1"],
        b2=options["b2"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
        mask=decay_mask,
    )
    # Always two links, so that a run may be resumed with or without clipping.
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm > 0 else optax.identity()
    return optax.chain(clip, adamw)


def kernels_only(params: Params) -> Params:
    """Return True for the leaves named "kernel", on which weight decay acts; False for all others."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


@dataclasses.dataclass(frozen=True)
class Kind:
    """The fields of section "optimizer" that govern one kind of parameter group.

    Attributes:
      rates: fields of its peak learning rate; the first that is set counts.
      clip_norm: field of the largest norm of its gradient.
      decays: whether weight decay acts on its kernels.
    """

    rates: tuple[str, ...]
    clip_norm: str
    decays: bool


KINDS = {
    "network": Kind(("learning_rate",), "clip_norm", decays=True),
    "encoder": Kind(("encoder_learning_rate", "learning_rate"), "clip_norm", decays=True),
    "endpoints": Kind(("schedule_learning_rate",), "schedule_clip_norm", decays=False),
    "shape": Kind(
        ("interior_learning_rate", "schedule_learning_rate"), "schedule_clip_norm", decays=False
    ),
}
"""Kinds of parameter groups. The end points of a schedule and its interior ("shape", the name of
that branch in checkpoints) have gradients of different objectives, so they are clipped apart.
"""


def make_optimizer(
    options: Mapping,
    num_steps: int,
    kinds: Mapping[str, str],
    labels: Callable[[Params], Params],
) -> optax.GradientTransformation:
    """Return the optimizer of a whole model, one AdamW per parameter group.

    Args:
      options: section "optimizer" of a configuration, see `vdm.runs.defaults`.
      num_steps: updates of the whole run.
      kinds: {parameter group: key of KINDS}, see `Model.group_kinds`.
      labels: parameters -> the group of every leaf, see `Model.groups`.
    """
    groups = {group: _of_kind(KINDS[kind], options, num_steps) for group, kind in kinds.items()}
    return optax.partition(groups, labels)


def _of_kind(kind: Kind, options: Mapping, num_steps: int) -> optax.GradientTransformation:
    """Return the optimizer of one group."""
    peak = next(value for value in map(options.get, kind.rates) if value is not None)
    rate = learning_rate(peak, options["warmup_steps"], options["decay"], num_steps)
    clip_norm = options[kind.clip_norm]
    if kind.decays:
        return clipped_adamw(rate, options, clip_norm, decay_mask=kernels_only)
    return clipped_adamw(rate, {**options, "weight_decay": 0.0}, clip_norm)
