"""Stored evaluations of a work folder, each compared with the run as it is now."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.errors import CheckpointError
from vdm.runs import evaluations
from vdm.runs.config_identity import config_hash, earlier_config_hash
from vdm.runs.evaluations import Stored
from vdm.training.checkpoint_record import saved_ema_hash


def read_all(workdir: Path, identity: Mapping[str, Any]) -> dict[str, Stored]:
    """Return {file name: record} of evaluations/, sorted by name.

    A record is compared with the hashes of its configuration, its data and its own checkpoint; where
    that checkpoint is gone it is "unverified".

    Args:
      workdir: the work folder.
      identity: the contents of its config.json.
    """
    # These hashes are the same for all records, and cost more than reading one.
    hashes = {"data": identity["data"]["content_hash"], "config": config_hash(identity["config"])}
    wanted = {"hashes": hashes, "earlier_config_hash": earlier_config_hash(identity["config"])}
    checkpoint = functools.cache(lambda step: saved_ema_hash(workdir / "checkpoints", step))
    paths = sorted((workdir / "evaluations").glob("*.json"))
    return {path.name: _read(path, wanted, checkpoint) for path in paths}


def _read(path: Path, wanted: Mapping[str, Any], checkpoint: Callable[[int], str]) -> Stored:
    """Return one record, compared first with the run and then with its own checkpoint.

    Args:
      path: the record's file.
      wanted: the hashes of the run, see `evaluations.read`.
      checkpoint: gives the hash of the averaged parameters of a step.
    """
    record = evaluations.read(path, wanted)
    assert record is not None
    if record.fault and not record.facts:
        return record
    # Only the record says which checkpoint is its own, and that one may be gone.
    try:
        parameters = {"checkpoint": checkpoint(int(record.facts["checkpoint_step"]))}
    except (CheckpointError, KeyError, TypeError, ValueError):
        return (
            record if record.fault else Stored(record.facts, "unverified", "its checkpoint is gone")
        )
    return evaluations.read(path, {**wanted, "hashes": wanted["hashes"] | parameters}) or record
