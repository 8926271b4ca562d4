"""Parameter groups of a VDM, each with an optimizer of its own."""

import jax

from vdm.types import Params


def group_labels(params: Params) -> Params:
    """Return the group of every leaf: its branch, and in the schedule the part of that branch.

    The end points and the interior of a schedule are separate groups, because they descend different
    objectives.
    """

    def label(path, _):
        depth = 2 if path[0].key == "schedule" else 1
        return "/".join(str(step.key) for step in path[:depth])

    return jax.tree_util.tree_map_with_path(label, params)


def group_kinds(encoder: bool = False) -> dict[str, str]:
    """Return {group: kind of its optimizer}.

    Groups without parameters are included, because checkpoints hold their optimizer's state.

    Args:
      encoder: whether the model has an encoder of contexts.
    """
    kinds = {"denoiser": "network", "schedule/endpoints": "endpoints", "schedule/shape": "shape"}
    return {**kinds, "encoder": "encoder"} if encoder else kinds
