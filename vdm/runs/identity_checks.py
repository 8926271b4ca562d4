"""Types of what config.json holds: a damaged file is refused by the name of its first wrong field.

Only the form is checked here. What a value means is checked by whatever uses it: another revision may
have written fields, and choices of a section, that this one does not know.
"""

from collections.abc import Mapping
from typing import Any

from vdm.runs.kinds import NAMES, first_mismatch, is_of

_OPTIMIZER = "learning_rate schedule_learning_rate warmup_steps decay b1 b2 eps weight_decay"
_TRAIN = "num_steps batch_size log_every_steps evaluate_every_steps save_every_steps"
FIRST_FIELDS: dict[str, list[str]] = {
    "data": ["name", "cache_dir"],
    "model": ["parameterisation", "reconstruction"],
    "schedule": ["name", "gamma_0", "gamma_1"],
    "denoiser": ["name"],
    "objective": ["num_timesteps"],
    "optimizer": [*_OPTIMIZER.split(), "clip_norm", "schedule_clip_norm", "ema_decay"],
    "train": [*_TRAIN.split(), "keep_latest", "keep_best", "writers"],
    "evaluate": ["split", "num_timesteps", "batch_size", "repeats", "randomisations", "seed"],
}
"""{section: its fields} of the first revision that wrote config.json; no revision has lacked one."""


def check_sections(identity: Any) -> None:
    """Check the groups of config.json, before fields are looked up in them.

    Raises:
      ValueError: no object, or a section that is missing or no group of fields.
    """
    if not isinstance(identity, Mapping):
        raise ValueError(f"it holds {_show(identity)}, not an object")
    for group in ("config", "data"):
        _require_group(identity, group)
    if "seed" not in identity["config"]:
        raise ValueError("config.seed is missing")
    for section, fields in FIRST_FIELDS.items():
        _require_group(identity["config"], section, "config.")
        for field in fields:
            if field not in identity["config"][section]:
                raise ValueError(f"config.{section}.{field} is missing")


def check_fields(identity: Mapping[str, Any]) -> None:
    """Check the types of all fields of config.json whose type is known.

    Args:
      identity: its contents, with lists as tuples and the configuration under its present names.

    Raises:
      ValueError: the first field of another type.
    """
    if mismatch := first_mismatch(identity["config"]):
        field, value, reason = mismatch
        raise ValueError(f"config.{field} is {_show(value)}: {reason}")
    _check_data(identity["data"])
    changes = identity.get("changes", ())
    if not isinstance(changes, tuple) or not all(isinstance(c, Mapping) for c in changes):
        raise ValueError(f"changes is {_show(changes)}, not a list of objects")


def _check_data(data: Mapping[str, Any]) -> None:
    """Check the identity of the data: name, shape, levels, sizes of the splits, content hash."""
    kinds: dict[str, type] = {"name": str, "num_levels": int, "content_hash": str, "shape": tuple}
    for field, kind in kinds.items():
        if field not in data:
            raise ValueError(f"data.{field} is missing")
        _require_kind(f"data.{field}", data[field], kind)
    shape = data["shape"]
    if len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"data.shape is {_show(shape)}, not three sizes")
    _require_group(data, "split_sizes", "data.")
    for split, size in data["split_sizes"].items():
        _require_kind(f"data.split_sizes.{split}", size, int)


def _require_group(parent: Mapping[str, Any], name: str, prefix: str = "") -> None:
    if name not in parent:
        raise ValueError(f"{prefix}{name} is missing")
    if not isinstance(parent[name], Mapping):
        raise ValueError(f"{prefix}{name} is {_show(parent[name])}, not a group of fields")


def _require_kind(field: str, value: Any, kind: type) -> None:
    if not is_of(kind, value):
        raise ValueError(f"{field} is {_show(value)}: expected {NAMES[kind]}")


def _show(value: Any) -> str:
    """Return a value as short text."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
