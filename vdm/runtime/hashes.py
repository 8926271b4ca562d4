"""Hashes that tell whether what was read is what was written, and the differences by name.

A tree is described array by array, {path: shape, dtype, SHA-256}, with JAX's key strings as paths.
"""

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
"""Field of `vdm.training.state.TrainState` that holds the optimizer's state, as it stands in paths."""


class OtherModelError(CheckpointError):
    """Arrays of a checkpoint that are not those of the model, or of its optimizer."""


def fingerprints(tree: Tree, refuse_nonfinite: bool = False) -> dict[str, dict]:
    """Return {path: shape, dtype, SHA-256 of the bytes} of every array, however it is split.

    Args:
      tree: device or host arrays; every process must call this, because each array is gathered
        whole.
      refuse_nonfinite: raise instead if a float array holds nan or inf.

    Raises:
      NonFiniteError: a float array is not finite, and `refuse_nonfinite` is set.
    """
    by_path = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name, array = jax.tree_util.keystr(path), gather(leaf)
        if refuse_nonfinite and array.dtype.kind == "f" and not np.all(np.isfinite(array)):
            raise NonFiniteError(f"{name} is not finite")
        # Viewed as bytes, because numpy has no buffer interface for JAX's own dtypes, such as
        # bfloat16.
        digest = hashlib.sha256(
            np.ascontiguousarray(array.reshape(-1)).view(np.uint8).data
        ).hexdigest()
        by_path[name] = {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}
    return by_path


def describe(tree: Tree) -> dict[str, dict]:
    """Return {path: shape, dtype} of every array of `tree`, which may be abstract."""
    return {
        jax.tree_util.keystr(path): {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def check_same_arrays(saved: Mapping, wanted: Mapping, where: str) -> None:
    """Refuse a checkpoint whose arrays are not those wanted: Orbax casts a wrong dtype silently.

    Args:
      saved: what the checkpoint recorded, {item: {path: shape and dtype}}.
      wanted: the same of the model that is to receive the arrays.
      where: opens the message.

    Raises:
      OtherModelError: they differ; it says so where only the optimizer's state does.
    """
    before, now = _by_path(saved), _by_path(wanted)
    wrong = [n for n in sorted(set(before) | set(now)) if before.get(n) != now.get(n)]
    if not wrong:
        return

    # One array is enough for the message; a wrong width or depth usually changes them all.
    facts = f"{where}: holds {before.get(wrong[0], 'nothing')} at {wrong[0]}"
    expected = now.get(wrong[0], "nothing")

    # The commonest mismatch has its own remedy: the model is right and its parameters can be used.
    if all(OPTIMIZER_FIELD in name for name in wrong):
        raise OtherModelError(
            f"{facts}, the optimizer has {expected}; the model is the same and the mismatch lies in "
            "the optimizer's state alone: use the optimizer options or the version it was saved with"
        )
    raise OtherModelError(f"{facts}, the model has {expected}; it belongs to another model")


def _by_path(items: Mapping[str, Mapping]) -> dict[str, str]:
    """Return {item and path: dtype and shape as text}, which can be compared and shown."""
    return {
        item + path: f"{array['dtype']}{array['shape']}"
        for item, arrays in items.items()
        for path, array in arrays.items()
    }


def check_hashes(saved: Mapping, read: Mapping) -> None:
    """Raise ValueError unless all arrays have the hashes they were saved with."""
    wrong = [name for name in saved if saved[name]["sha256"] != read[name]["sha256"]]
    if wrong:
        raise ValueError(f"the hash of {wrong[0]} differs, {len(wrong)} of {len(saved)} arrays")


def sealed(record: Mapping) -> dict:
    """Return a record together with its own hash, for a file that may be damaged."""
    return {"content": record, "sha256": json_hash(record)}


def unsealed(sealed: Any) -> dict:
    """Return the record that `sealed` wrapped.

    Raises:
      ValueError: it is incomplete, or was changed.
    """
    if not isinstance(sealed, dict) or set(sealed) != {"content", "sha256"}:
        raise ValueError("its record is incomplete")
    if json_hash(sealed["content"]) != sealed["sha256"]:
        raise ValueError("the hash of its record differs")
    return sealed["content"]


def tree_hash(tree: Tree) -> str:
    """Return the SHA-256 (hex) of all arrays of a tree with their paths, shapes and dtypes."""
    return json_hash(fingerprints(tree))


def json_hash(record: Any) -> str:
    """Return the SHA-256 (hex) of a record as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
