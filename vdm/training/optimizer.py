"""AdamW per parameter group: denoiser, schedule and encoder have their own clipping and rate."""

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


def make_optimizer(
    options: Mapping, num_steps: int, encoder: bool = False
) -> optax.GradientTransformation:
    """The optimizer of a whole model; see `vdm.runs.defaults.optimizer` for `options`.

    `encoder`: whether the model has one. Otherwise there is no such group, as in checkpoints of old.
    """
    if options.get("shape_learning_rate") is None:
        options = {**options, "shape_learning_rate": options["schedule_learning_rate"]}
    rates = {
        group: learning_rate(options[peak], options["warmup_steps"], options["decay"], num_steps)
        for group, peak in (
            ("denoiser", "learning_rate"),
            ("endpoints", "schedule_learning_rate"),
            ("shape", "shape_learning_rate"),
        )
    }
    no_decay = {**options, "weight_decay": 0.0}
    endpoints, shape = (
        clipped_adamw(rates[group], no_decay, options["schedule_clip_norm"])
        for group in ("endpoints", "shape")
    )
    groups = {
        "denoiser": clipped_adamw(
            rates["denoiser"], options, options["clip_norm"], decay_mask=kernels_only
        ),
        # End points and shape have gradients of different things: clipped apart.
        "schedule/endpoints": endpoints,
        "schedule/shape": shape,
    }
    if encoder:
        rate = options.get("encoder_learning_rate")
        rate = options["learning_rate"] if rate is None else rate
        groups["encoder"] = clipped_adamw(
            learning_rate(rate, options["warmup_steps"], options["decay"], num_steps),
            options,
            options["clip_norm"],
            decay_mask=kernels_only,
        )
    return optax.partition(groups, group_labels)


def group_labels(params: Params) -> Params:
    """The name of its parameter group for every leaf: its branch, two levels deep in the schedule."""

    def label(path, _):
        depth = 2 if path[0].key == "schedule" else 1
        return "/".join(str(step.key) for step in path[:depth])

    return jax.tree_util.tree_map_with_path(label, params)
