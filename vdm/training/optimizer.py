"""AdamW per parameter group, each with its own clipping and learning rate."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from vdm.errors import choose
from vdm.types import Params

LearningRate = Callable[[jax.Array], jax.Array]


def _constant(fraction):
    return jnp.ones_like(fraction)


def _linear(fraction):
    return 1.0 - fraction


def _cosine(fraction):
    return 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))


DECAYS = {"constant": _constant, "linear": _linear, "cosine": _cosine}
"""Fraction of training done, 0 to 1 -> factor of the learning rate."""


def learning_rate(peak: float, warmup_steps: int, decay: str, num_steps: int) -> LearningRate:
    """peak * min(1, (n + 1)/warmup) * decay(n/num_steps) at step n: never 0 at the first step."""
    factor = choose("optimizer.decay", decay, DECAYS, "decay")

    def rate(step):
        step = jnp.asarray(step, jnp.float32)
        warmup = jnp.minimum(1.0, (step + 1.0) / max(warmup_steps, 1))
        return peak * warmup * factor(jnp.minimum(step / num_steps, 1.0))

    return rate


def clipped_adamw(
    rate: LearningRate | float, options: Mapping, clip_norm: float, decay_mask=None
) -> optax.GradientTransformation:
    """Clip by the group's global norm (0: never), then AdamW, decaying what `decay_mask` marks.

    `options`: b1, b2, eps, weight_decay.
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
    """True for the leaves named "kernel": what weight decay acts on; never biases, norms, gammas."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


@dataclasses.dataclass(frozen=True)
class Kind:
    """The options of one kind of parameter group.

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
"""End points and shape of a schedule have gradients of different things: they are clipped apart."""


def make_optimizer(
    options: Mapping,
    num_steps: int,
    kinds: Mapping[str, str],
    labels: Callable[[Params], Params],
) -> optax.GradientTransformation:
    """The optimizer of a whole model.

    Args:
      options: section "optimizer" of a configuration, see `vdm.runs.defaults`.
      num_steps: updates of the whole run.
      kinds: {parameter group: key of KINDS}, see `Model.group_kinds`.
      labels: parameters -> the group of every leaf, see `Model.groups`.
    """
    groups = {group: _of_kind(KINDS[kind], options, num_steps) for group, kind in kinds.items()}
    return optax.partition(groups, labels)


def _of_kind(kind: Kind, options: Mapping, num_steps: int) -> optax.GradientTransformation:
    peak = next(value for value in map(options.get, kind.rates) if value is not None)
    rate = learning_rate(peak, options["warmup_steps"], options["decay"], num_steps)
    clip_norm = options[kind.clip_norm]
    if kind.decays:
        return clipped_adamw(rate, options, clip_norm, decay_mask=kernels_only)
    return clipped_adamw(rate, {**options, "weight_decay": 0.0}, clip_norm)
