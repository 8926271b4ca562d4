"""Hashes that tell whether what was read is what was written, and the differences by name."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vdm.errors import CheckpointError, NonFiniteError
from vdm.runtime.devices import gather

Tree = Any


OPTIMIZER_FIELD = "opt_state"
"""The name, in paths, of what `vdm.training.state.TrainState` holds for the optimizer."""


class OtherModelError(CheckpointError):
    """The arrays of a checkpoint are not those of the model, or of its optimizer."""


def fingerprints(tree: Tree, refuse_nonfinite: bool = False) -> dict[str, dict]:
    """{path: shape, dtype, SHA-256 of the bytes} of every array, the same however it is split."""
    prints = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name, array = jax.tree_util.keystr(path), gather(leaf)
        if refuse_nonfinite and array.dtype.kind == "f" and not np.all(np.isfinite(array)):
            raise NonFiniteError(f"{name} is not finite: it is not saved; the last checkpoint is")
        digest = hashlib.sha256(
            np.ascontiguousarray(array.reshape(-1)).view(np.uint8).data
        ).hexdigest()
        prints[name] = {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}
    return prints


def describe(tree: Tree) -> dict[str, dict]:
    return {
        jax.tree_util.keystr(path): {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def check_same_arrays(saved: Mapping, wanted: Mapping, where: str) -> None:
    """Refuses another set of arrays, given by item and path: Orbax casts a wrong dtype silently.

    Raises OtherModelError, which says so where only the optimizer's state differs.
    """
    before, now = _by_path(saved), _by_path(wanted)
    wrong = [n for n in sorted(set(before) | set(now)) if before.get(n) != now.get(n)]
    if not wrong:
        return
    facts = f"{where}: holds {before.get(wrong[0], 'nothing')} at {wrong[0]}"
    expected = now.get(wrong[0], "nothing")
    if all(OPTIMIZER_FIELD in name for name in wrong):
        raise OtherModelError(
            f"{facts}, the optimizer has {expected}; the model is the same and the mismatch lies in "
            "the optimizer's state alone: use the optimizer options or the version it was saved with"
        )
    raise OtherModelError(f"{facts}, the model has {expected}; it belongs to another model")


def _by_path(items: Mapping[str, Mapping]) -> dict[str, str]:
    return {
        item + path: f"{array['dtype']}{array['shape']}"
        for item, arrays in items.items()
        for path, array in arrays.items()
    }


def check_hashes(saved: Mapping, found: Mapping) -> None:
    wrong = [name for name in saved if saved[name]["sha256"] != found[name]["sha256"]]
    if wrong:
        raise ValueError(f"the hash of {wrong[0]} differs, {len(wrong)} of {len(saved)} arrays")


def sealed(record: Mapping) -> dict:
    """The record beside its own hash."""
    return {"content": record, "sha256": json_hash(record)}


def unsealed(sealed: Any) -> dict:
    if not isinstance(sealed, dict) or set(sealed) != {"content", "sha256"}:
        raise ValueError("its record is incomplete")
    if json_hash(sealed["content"]) != sealed["sha256"]:
        raise ValueError("the hash of its record differs")
    return sealed["content"]


def tree_hash(tree: Tree) -> str:
    """SHA-256 (hex) of all arrays of a tree with their paths, shapes and dtypes."""
    return json_hash(fingerprints(tree))


def json_hash(record: Any) -> str:
    """SHA-256 (hex) of a record as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
