"""Model families: one file or folder each, and one dictionary that names them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vdm.errors import choose
from vdm.models.base import Model
from vdm.models.vdm.make import make_vdm
from vdm.types import DataSpec

FAMILIES: dict[str, Callable[[DataSpec, Mapping[str, Any]], Model]] = {
    "vdm": make_vdm,
}
"""{name: function (facts of the data, whole configuration) -> Model}."""


def make_family(spec: DataSpec, config: Mapping[str, Any]) -> Model:
    """Build the model of the family that `config.model.family` names.

    Configurations of earlier revisions name no family; theirs is "vdm".

    Args:
      spec: facts of the data set.
      config: the whole configuration.

    Raises:
      ConfigError: an unknown family, or an option that the family refuses.
    """
    name = config["model"].get("family", "vdm")
    model = choose("config.model.family", name, FAMILIES, "model family")(spec, config)
    # Set here, so that no family can forget it; configurations of earlier revisions lack it.
    num_microbatches = config["train"].get("num_microbatches", 1)
    return dataclasses.replace(model, num_microbatches=num_microbatches)
