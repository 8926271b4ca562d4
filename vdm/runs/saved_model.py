"""Configuration and model of a run from its config.json, without its data.

The file may have been damaged since, or written by a version that knows more than this one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vdm
from vdm.errors import CheckpointError, ConfigError
from vdm.models import make_family
from vdm.models.base import Model
from vdm.runs.completion import complete_saved, unknown_fields
from vdm.runs.config import as_tuples
from vdm.runs.former_fields import upgrade, with_former_values, without_former_values
from vdm.types import DataSpec


def read_spec(workdir: Path, identity: Mapping[str, Any]) -> DataSpec:
    """Return shape, levels and hash of the data in config.json; CheckpointError if it is damaged."""
    try:
        data = identity["data"]
        height, width, channels = (int(size) for size in data["shape"])
        return DataSpec(
            name=str(data["name"]),
            shape=(height, width, channels),
            num_levels=int(data["num_levels"]),
            split_sizes=dict(data["split_sizes"]),
            content_hash=str(data["content_hash"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(workdir, f'"data": {type(error).__name__} {error}') from None


def read_config(workdir: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return every field of the configuration in config.json, under its present name.

    `vdm.runs.build` takes it. Values of former fields that have no effect are left out; hashes need
    them, see `hashed_config`.

    Raises:
      CheckpointError: it is damaged, or a newer version wrote it.
    """
    config = identity["config"]
    if not isinstance(config, Mapping):
        raise _damaged(workdir, '"config" is no group of fields')
    if _numbers(_writer(identity)) > _numbers(vdm.__version__):
        raise _newer(workdir, identity, "")
    present = without_former_values(upgrade(config))
    for field, value in unknown_fields(present):
        raise _newer(workdir, identity, f"config.{field}={value!r} is unknown to it; ")
    return complete_saved(present)


def hashed_config(identity: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config`, as `read_config` gave it, with everything that the run's hashes cover."""
    return with_former_values(config, as_tuples(upgrade(identity["config"])))


def build_model(
    workdir: Path, identity: Mapping[str, Any], spec: DataSpec, config: Mapping[str, Any]
) -> Model:
    """Return the model that `config` describes for images as in `spec`.

    Args:
      workdir: the work folder, for messages.
      identity: the contents of config.json, for the version that wrote it.
      spec: shape and levels of the data.
      config: every field, see `read_config`.

    Raises:
      CheckpointError: this version knows no such model.
    """
    try:
        return make_family(spec, config)
    except ConfigError as error:
        raise _newer(workdir, identity, f"{error}; ") from None
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(workdir, f"{type(error).__name__}: {error}") from None


def _writer(identity: Mapping[str, Any]) -> str:
    """Return the version that wrote config.json; "" where it does not say."""
    try:
        return str(identity["provenance"]["versions"]["vdm"])
    except (KeyError, TypeError):
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _newer(workdir: Path, identity: Mapping[str, Any], reason: str) -> CheckpointError:
    try:
        revision = f", revision {identity['provenance']['git_revision']}"
    except (KeyError, TypeError):
        revision = ""
    return CheckpointError(
        f"workdir={workdir}: vdm {vdm.__version__} cannot read this run; {reason}it was written by a "
        f"newer version ({_writer(identity) or 'unknown'}{revision}): upgrade vdm to that"
    )


def _damaged(workdir: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{workdir / 'config.json'}: is damaged ({reason}); restore it, or train in another folder"
    )
