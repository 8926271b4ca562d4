"""Floating-point operations of a training step, by XLA's cost analysis."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from vdm.data.batches import train_batch
from vdm.models import make_family
from vdm.runs.parts import Parts
from vdm.runtime import devices


def train_step_flops(parts: Parts) -> float | None:
    """Return the FLOPs of one step on the whole batch; None where the backend gives none.

    The program is analysed before optimisation, so the number is the same on every kind of device.
    Loops over blocks and images are written out first: the analysis counts the body of a loop once.
    """
    parts = _unrolled(parts)
    batch = train_batch(parts.dataset, 0, 0, parts.config["train"]["batch_size"])
    abstract = devices.abstract_like(batch, devices.batch_sharding(parts.mesh))
    try:
        step: Any = parts.train_step()
        cost = step.lower(parts.abstract_state(), abstract).cost_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    cost = cost[0] if isinstance(cost, list) else cost
    return float(cost["flops"]) if cost and cost.get("flops", 0) > 0 else None


def _unrolled(parts: Parts) -> Parts:
    """Return `parts` with the model of `without_loops`."""
    config = without_loops(parts.config)
    return dataclasses.replace(parts, config=config, model=make_family(parts.dataset.spec, config))


def without_loops(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with blocks written out and all images attended to at once."""
    denoiser = dict(config["denoiser"])
    options = dict(denoiser.get(denoiser["name"], {}))
    if "unroll" in options:
        options |= {"unroll": True, "attend_by_image": False}
    return {**config, "denoiser": {**denoiser, denoiser["name"]: options}}
