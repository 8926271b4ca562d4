"""Model families, one file or folder each, found in one dictionary."""

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
"""Each entry: a function (data, whole configuration) -> Model."""


def make_family(spec: DataSpec, config: Mapping[str, Any]) -> Model:
    """The model of the family that `config` names; "vdm" where an earlier revision named none.

    Raises:
      ConfigError: no such family, or what that family refuses.
    """
    name = config["model"].get("family", "vdm")
    model = choose("config.model.family", name, FAMILIES, "model family")(spec, config)
    # Set here, so that no family can forget it; configurations of earlier revisions lack it.
    num_microbatches = config["train"].get("num_microbatches", 1)
    return dataclasses.replace(model, num_microbatches=num_microbatches)
