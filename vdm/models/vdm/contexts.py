"""Draws of a conditional schedule's context, c ~ q(c|x), from the parameters of a model's encoder."""

from typing import Any

import jax

from vdm.distributions import Draw, codes
from vdm.errors import ConfigError
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.vdm.noise import Noise
from vdm.types import Batch, Latents, Params


def encode_batch(
    model: DiffusionModel, params: Params, batch: Batch, noise: Noise, *, train: bool = False
) -> Draw | None:
    """Draw the context of every image of a batch; None for a model without a context.

    Args:
      model: a diffusion model.
      params: its parameters.
      batch: integer codes [B,H,W,C].
      noise: draws of the bound, of which the contexts' are used.
      train: whether the draw is for training, where a discrete context is relaxed.
    """
    if model.context is None:
        return None
    x = codes.bin_centres(batch.images, model.num_levels)
    return model.encode(params, x, noise.context, train=train)


def encode(
    model: DiffusionModel,
    params: Params,
    x: Latents,
    noise: jax.Array | None,
    *,
    train: bool = False,
    relaxed: bool | None = None,
) -> Draw | None:
    """Draw c ~ q(c|x) with its KL: `DiffusionModel.encode`, which has the arguments, of a VDM.

    Raises:
      ConfigError: missing parameters or noise of the context, or a relaxed one outside training.
    """
    if model.context is None:
        return None
    _check(model, params, noise, relaxed=bool(relaxed), train=train)
    statistics: Any = model.encoder.apply({"params": params["encoder"]}, x)
    return model.context.posterior(statistics, noise, train if relaxed is None else relaxed)  # type: ignore[arg-type]


def _check(model: DiffusionModel, params: Params, noise, *, relaxed: bool, train: bool) -> None:
    """Refuse with a ConfigError what would be no draw from q(c|x)."""
    if relaxed and not train:
        raise ConfigError(
            "relaxed=True: a relaxed context is no draw from q(c|x), and the KL that is charged is "
            "not its own, so that evaluation would give no bound; leave it to training"
        )
    if "encoder" not in params:
        raise ConfigError(
            f"params: the model has a {type(model.context).__name__}, and its encoder's "
            f"parameters are missing (branches: {', '.join(sorted(params))}); "
            "take them from model.init or from a checkpoint of this configuration"
        )
    if noise is None:
        raise ConfigError(
            "noise.context: the model has a context, and its noise was not drawn; "
            "pass model.draw_context to training_noise or evaluation_noise"
        )
