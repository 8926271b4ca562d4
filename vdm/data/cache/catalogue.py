"""The catalogue: request -> the prepared folder that answers it, so that preparing happens once.

    <cache>/catalogue/<hash of the request>/record.json  labels-*.npy  index-*.npy
    <cache>/catalogue/<hash of the request>.lock

A request is everything that decides the pixels, as JSON. The pixels lie in the folder named by
their content hash (see `vdm.data.cache.prepared`), which several requests may share. A record is
written last and whole, so that the folder it names is complete.
"""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vdm.data.base import Dataset
from vdm.data.cache.prepared import content_folder, open_prepared
from vdm.errors import DataError, DiskError
from vdm.runtime import locks
from vdm.runtime.files import sync_folder, write_whole

FOLDER = "catalogue"
RECORD = "record.json"
_PER_IMAGE = ("labels", "index")
"""Arrays [N] per split that lie beside the record: equal pixels may have other labels."""


def request_hash(request: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of a request."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def find(root: Path, request: Mapping[str, Any], verify: bool = False) -> Dataset | None:
    """Return the data that answer `request`, or None if they are not prepared here.

    Args:
      root: the cache.
      request: everything that decides the pixels.
      verify: hash all pixels again.

    Raises:
      DataError: they are prepared, but damaged.
    """
    folder = root / FOLDER / request_hash(request)
    if not (folder / RECORD).exists():
        return None
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        # Through JSON, which turns tuples into lists.
        if record["request"] != json.loads(json.dumps(request)):
            raise ValueError("it answers another request")
        extras = {kind: _read_per_image(folder, record, kind) for kind in _PER_IMAGE}
        content, name, notes = record["content_hash"], record["name"], record["notes"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{folder}: damaged ({error}); delete this folder and prepare the data again"
        ) from None
    prepared = content_folder(root, content)
    if not prepared.exists():
        return None  # deleted to free space: prepared again

    # Equal pixels may have been prepared under another name: name and notes are the request's.
    stored = open_prepared(prepared, verify)
    return Dataset(
        dataclasses.replace(stored.spec, name=name, notes=notes), stored.splits, **extras
    )


def record(
    root: Path,
    request: Mapping[str, Any],
    facts: Mapping[str, Any],
    per_image: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Record that the content `facts["content_hash"]` answers `request`.

    Args:
      root: the cache.
      request: everything that decides the pixels.
      facts: "content_hash", "name", "notes" and whatever else is known.
      per_image: "labels" and "index", each [N] per split, or {}.

    Raises:
      DiskError: the cache cannot be written.
    """
    folder = root / FOLDER / request_hash(request)
    temporary = folder.with_name(f".writing-{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        hashes = {}
        for kind in _PER_IMAGE:
            for split, array in per_image.get(kind, {}).items():
                content = _npy(array)
                hashes[f"{kind}-{split}.npy"] = hashlib.sha256(content).hexdigest()
                write_whole(temporary / f"{kind}-{split}.npy", content)

        # The record comes last within the folder, and the folder gets its name last: a killed
        # process leaves nothing that `find` would take for an answer.
        content = json.dumps({"request": request, **facts, "files": hashes}, indent=2).encode()
        write_whole(temporary / RECORD, content)
        sync_folder(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(temporary, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise DiskError(f"{folder}: cannot be written ({error}); free space") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def preparing(
    root: Path, request: Mapping[str, Any], wait: Callable[[str], None]
) -> Iterator[Path]:
    """Lock `request` against other processes, and give a scratch folder that vanishes at the end.

    What a killed process left behind is removed.

    Args:
      root: the cache.
      request: everything that decides the pixels.
      wait: called with a line if another process is preparing the same data, which is then waited
        for.

    Raises:
      DiskError: the cache cannot be written.
    """

    # The start of the scratch folder's name follows from the request, so that the next process
    # finds what a killed one left; the rest is random, so that nobody can put something there first.
    folder = root / FOLDER
    prefix = f".scratch-{request_hash(request)[:32]}-"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = locks.take(
            folder / f"{request_hash(request)}.lock",
            lambda owner: wait(f"{owner} is preparing the same data; waiting for it"),
        )
    except OSError as error:
        raise DiskError(
            f"{root}: cannot be written ({error}); set VDM_DATA_DIR to a folder that can be"
        ) from None

    # Only the holder of the lock may remove it: another process may be writing there until then.
    with lock:
        for leftover in folder.glob(f"{prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _npy(array: np.ndarray) -> bytes:
    """Return an array in the format .npy, as bytes, which can be hashed before they are written."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _read_per_image(folder: Path, record: Mapping, kind: str) -> dict[str, np.ndarray]:
    """Return the labels or positions of every split, each compared with its recorded hash."""
    arrays = {}
    for name, expected in record["files"].items():
        if name.startswith(f"{kind}-"):
            content = (folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError(f"{name} has changed")
            split = name.removeprefix(f"{kind}-").removesuffix(".npy")
            arrays[split] = np.load(io.BytesIO(content), allow_pickle=False)
    return arrays
