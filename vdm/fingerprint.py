"""Hashes that tell whether what was read is what was written, and the differences by name."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vdm.errors import CheckpointError, NonFiniteError

Tree = Any


class OtherModelError(CheckpointError):
    """The arrays of a checkpoint are not those of the model."""


def fingerprints(tree: Tree, refuse_nonfinite: bool = False) -> dict[str, dict]:
    """{path: shape, dtype, SHA-256 of the bytes} of every array."""
    prints = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name, array = jax.tree_util.keystr(path), np.asarray(leaf)
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
    """Refuses another set of arrays: Orbax casts a wrong dtype silently."""
    for name in sorted(set(saved) | set(wanted)):
        facts = [
            f"{t[name]['dtype']}{t[name]['shape']}" if name in t else "nothing"
            for t in (saved, wanted)
        ]
        if facts[0] != facts[1]:
            raise OtherModelError(
                f"{where}: holds {facts[0]} at {name}, the model has {facts[1]}; "
                "it belongs to another model"
            )


def check_hashes(saved: Mapping, found: Mapping) -> None:
    wrong = [name for name in saved if saved[name]["sha256"] != found[name]["sha256"]]
    if wrong:
        raise ValueError(f"the hash of {wrong[0]} differs, {len(wrong)} of {len(saved)} arrays")


def sealed(record: Mapping) -> dict:
    """The record beside its own hash."""
    return {"content": record, "sha256": _json_hash(record)}


def unsealed(sealed: Any) -> dict:
    if not isinstance(sealed, dict) or set(sealed) != {"content", "sha256"}:
        raise ValueError("its record is incomplete")
    if _json_hash(sealed["content"]) != sealed["sha256"]:
        raise ValueError("the hash of its record differs")
    return sealed["content"]


def _json_hash(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
