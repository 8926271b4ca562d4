"""Files of evaluations in a work folder, trusted only while they belong to its checkpoint.

A record is JSON under a SHA-256 of itself, with the SHA-256 of the .npz beside it. It is current when
its hashes of checkpoint, configuration and data, and its settings, are those asked for. Any other
record at the same place is renamed before a new one is written, never shown and never overwritten.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdm.errors import DiskError
from vdm.runs.folder import npz, write_bytes, write_json
from vdm.runtime.hashes import json_hash
from vdm.runtime.processes import is_first

SEAL = "record_sha256"
ARRAYS = "arrays_sha256"
SETTINGS = (
    "split",
    "checkpoint_step",
    "timesteps_eval",
    "repeats",
    "randomisations",
    "evaluation_seed",
)
"""Facts of a record that must be those asked for, besides its hashes."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """A stored record and its state.

    Attributes:
      facts: its content; empty where it cannot be read.
      fault: "" for a current record; otherwise "stale" (of another checkpoint, configuration or
        data), "unverified" (of an earlier revision, without a hash over itself) or "damaged".
      reason: what is wrong, in words.
    """

    facts: Mapping[str, Any]
    fault: str = ""
    reason: str = ""


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> None:
    """Write a record, and beside it an .npz of `arrays`; set aside a record that is not its equal.

    Args:
      path: the record's file, *.json.
      facts: the record, JSON-able; its hashes and SETTINGS decide whether an older one is its equal.
      arrays: values per image.
    """
    present = read(path, facts)
    if present is not None and present.fault:
        set_aside(path, present)
    record = dict(json.loads(json.dumps(facts)))
    if arrays is not None:
        content = npz(arrays)
        record[ARRAYS] = hashlib.sha256(content).hexdigest()
        write_bytes(path.with_suffix(".npz"), content)
    write_json(path, {**record, SEAL: json_hash(record)})


def read(path: Path, wanted: Mapping[str, Any]) -> Stored | None:
    """Return the record at `path`, compared with the one `wanted`; None where there is none.

    Args:
      path: the record's file, *.json.
      wanted: {"hashes": {"checkpoint", "config", "data"}} and any of SETTINGS; "earlier_config_hash"
        is what a record of an earlier revision may have in place of the configuration's hash.
    """
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    # Thousands of lists within lists are a recursion too deep.
    except (OSError, ValueError, RecursionError) as error:
        return Stored({}, "damaged", f"it cannot be read ({error})")
    if not isinstance(facts, dict) or not isinstance(facts.get("hashes"), dict):
        return Stored({}, "damaged", "it is no record of an evaluation")
    if SEAL in facts:
        return _sealed(path, facts, wanted)
    if differing := _differing(facts, wanted, earlier=True):
        return Stored(facts, "stale", f"it has another {differing}")
    return Stored(
        present_form(facts), "unverified", "an earlier revision wrote it without a hash over itself"
    )


def set_aside(path: Path, stored: Stored) -> None:
    """Rename a record that is not current, and its .npz, to FAULT-NAME, and say so on stderr.

    Args:
      path: the record's file, *.json.
      stored: the record as `read` returned it.

    Raises:
      DiskError: the file cannot be renamed.
    """
    if not is_first():
        return
    target, number = path.with_name(f"{stored.fault}-{path.name}"), 1
    # A number of its own for each: nothing that was measured is overwritten.
    while target.exists():
        number += 1
        target = path.with_name(f"{stored.fault}-{number}-{path.name}")
    try:
        path.rename(target)
        if path.with_suffix(".npz").exists():
            path.with_suffix(".npz").rename(target.with_suffix(".npz"))
    except OSError as error:
        raise DiskError(
            f"{path}: is {stored.fault} and cannot be renamed ({error.strerror}); delete it"
        ) from None
    print(
        f"WARNING: {path} is not used: {stored.reason}; it is now {target.name}",
        file=sys.stderr,
        flush=True,
    )


def _sealed(path: Path, facts: dict[str, Any], wanted: Mapping[str, Any]) -> Stored:
    """Return a record that carries a hash over itself, checked against it and the one wanted."""
    content = {name: value for name, value in facts.items() if name != SEAL}
    if json_hash(content) != facts[SEAL]:
        return Stored(facts, "damaged", "the hash over it differs")
    if differing := _differing(facts, wanted, earlier=False):
        return Stored(facts, "stale", f"it has another {differing}")
    if ARRAYS in facts and _file_hash(path.with_suffix(".npz")) != facts[ARRAYS]:
        return Stored(facts, "damaged", f"{path.with_suffix('.npz').name} is not the file it was")
    return Stored(present_form(facts))


def present_form(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record in today's form.

    Two earlier formats are read: that of `evaluate` ("bound" a sentence, no "rows") and that of
    `evaluate --bound=...` ("terms" and "rows", no "bits_per_dim").
    """
    record = dict(facts)
    if "bits_per_dim" not in record and "rows" in record:
        rows, terms = record["rows"], record.pop("terms", {})
        named = [("total", rows[0])] if terms else [(row["row"], row) for row in rows]
        record["bits_per_dim"] = {**terms, **{name: row["estimate"] for name, row in named}}
    if str(record.get("bound", "")).startswith("negative ELBO"):
        record |= {"bound": "elbo", "num_timesteps": record.get("timesteps_eval")}
    return record


def _differing(facts: Mapping[str, Any], wanted: Mapping[str, Any], earlier: bool) -> str:
    """Return the first hash or setting in which a record is not the one wanted; "" if none is."""
    for name, value in wanted["hashes"].items():
        valid = {value}
        if earlier and name == "config":
            # Earlier revisions hashed every field; without their hash nothing can be said.
            valid.add(wanted.get("earlier_config_hash", facts["hashes"].get(name)))
        if facts["hashes"].get(name) is None or facts["hashes"][name] not in valid:
            return name
    names = [name for name in SETTINGS if name in wanted]
    return next((name for name in names if facts.get(name) != wanted[name]), "")


def _file_hash(path: Path) -> str | None:
    """Return the SHA-256 of a file; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
