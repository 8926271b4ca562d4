"""Sizes of parameter trees."""

import jax

from vdm.types import Params


def count_parameters(params: Params) -> int:
    """Count the scalars in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
