"""The parameter groups of a VDM, each with an optimizer of its own."""

import jax

from vdm.types import Params


def group_labels(params: Params) -> Params:
    """The branch of every leaf, two levels deep in the schedule: its ends and shape differ."""

    def label(path, _):
        depth = 2 if path[0].key == "schedule" else 1
        return "/".join(str(step.key) for step in path[:depth])

    return jax.tree_util.tree_map_with_path(label, params)


def group_kinds(encoder: bool = False) -> dict[str, str]:
    """{group: kind of its optimizer}; with `encoder`, that of contexts too.

    Groups without parameters are among them, because checkpoints hold their optimizer's state.
    """
    kinds = {"denoiser": "network", "schedule/endpoints": "endpoints", "schedule/shape": "shape"}
    return {**kinds, "encoder": "encoder"} if encoder else kinds
