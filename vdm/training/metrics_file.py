"""The file metrics.jsonl: read, and cut to a step, in one pass whatever has become of its lines.

The records on both sides of damaged lines are kept, and a warning names those. A file of 100 MB costs a
second of processor time and the memory of one line.
"""

import contextlib
import functools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vdm.runtime.files import sync_folder
from vdm.training.metrics_lines import DAMAGED, MAX_LINE_BYTES, Damage, step_of, undamaged

_BLOCK_BYTES = 1 << 20


def read_records(path: Path) -> Iterator[dict]:
    """Yield the records of a metrics file in order; damaged lines are passed over with one warning.

    Args:
      path: the file; one that is missing holds no records.
    """
    damage = Damage()
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in undamaged(file, damage):
            yield json.loads(line.content)
    if damage:
        _warn(f"WARNING: {path}: {damage}; passed over, the other lines are read")


def read_json_lines(path: Path) -> list[dict]:
    """Return the records of a metrics file as a list, see `read_records`."""
    return list(read_records(path))


def last_step(path: Path) -> int:
    """Return the step of the last record of a metrics file, found from its end; 0 without one."""
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            while position > 0:
                # Each block reaches over the next one's first line, which it may have cut in two.
                end = min(position + MAX_LINE_BYTES, file.seek(0, os.SEEK_END))
                position = max(0, position - _BLOCK_BYTES)
                file.seek(position)
                steps = map(step_of, file.read(end - position).splitlines()[::-1])
                if (step := next((s for s in steps if s != DAMAGED), DAMAGED)) != DAMAGED:
                    return step
    except OSError:
        pass  # whoever writes the file will say so
    return 0


def cut_to_step(path: Path, step: int) -> list[dict]:
    """Remove the records after `step` from a metrics file, and put its damaged lines aside.

    Damaged lines go to the end of NAME.damaged.jsonl in the same folder. Where they are none, or all
    stand after the records, the file is shortened in place, which even a full disk allows; otherwise
    the records are copied to a new file that takes its name.

    Args:
      path: the file, such as metrics.jsonl; nothing is done where there is none.
      step: the last step to keep.

    Returns:
      The records of `step` itself.

    Raises:
      OSError: the file cannot be read or written; it is then as it was.
    """
    if not path.exists():
        return []
    damage, end, same_step, is_ended = Damage(), 0, [], True
    with path.open("rb") as file:
        for line in undamaged(file, damage):
            if line.step > step:
                continue  # the rest too, but damage in it is still to be named
            end, is_ended = line.end, line.content.endswith(b"\n")
            if line.step == step:
                same_step.append(json.loads(line.content))

    if damage:
        aside = path.with_suffix(f".damaged{path.suffix}")
        _append_ranges(path, damage, aside)
        _warn(f"WARNING: {path}: {damage}; put into {aside.name}, the other lines are kept")
    if any(start < end for _, _, start, _ in damage.ranges):
        _replace_without(path, damage, end)
    elif path.stat().st_size > end:
        os.truncate(path, end)
    if not is_ended:
        _end_line(path)
    return same_step


@functools.cache
def _warn(text: str) -> None:
    """Print a warning once in the life of the process: a file is read for one figure after another."""
    print(text, file=sys.stderr, flush=True)


def _append_ranges(path: Path, damage: Damage, aside: Path) -> None:
    """Append the damaged lines to the file `aside`, each ended by a newline."""
    with path.open("rb") as source, aside.open("ab") as target:
        for _, _, start, end in damage.ranges:
            _copy(source, target, start, end)
            source.seek(end - 1)
            if source.read(1) != b"\n":
                target.write(b"\n")
        # On the disk before they leave the other file.
        target.flush()
        os.fsync(target.fileno())
    sync_folder(path.parent)


def _replace_without(path: Path, damage: Damage, end: int) -> None:
    """Replace a file by a copy of its first `end` bytes without the damaged lines."""
    # A name that nobody can guess: where others may write, a link could lie at a known one.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with open(descriptor, "wb") as target, path.open("rb") as source:
            position = 0
            for _, _, start, after in [*damage.ranges, (0, 0, end, end)]:
                _copy(source, target, position, min(start, end))
                position = max(position, after)
            target.flush()
            os.fsync(target.fileno())
        os.chmod(name, path.stat().st_mode & 0o777)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _end_line(path: Path) -> None:
    """Add the newline that the last record lacks; the next one would be appended to its line."""
    with path.open("ab") as file:
        file.write(b"\n")


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    """Copy bytes [start, end), a block at a time."""
    source.seek(start)
    while (size := min(_BLOCK_BYTES, end - start)) > 0 and (block := source.read(size)):
        target.write(block)
        start += len(block)
