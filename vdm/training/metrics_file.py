"""The file metrics.jsonl: read and cut in one pass, whatever has become of its lines.

A record is a line {"step": n, name: number, ...}; steps never fall from one line to the next. Every
other line is damage, such as one torn by a power cut or hit by a flipped bit: the records on both
sides of it are kept, and a warning names its line. The whole of every line is checked, by one regular
expression for what `writers.json_lines` writes and by the JSON parser for all else, so that a file of
100 MB costs a second of processor time and the memory of one line.
"""

import contextlib
import functools
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vdm.runtime.files import sync_folder

MAX_LINE_BYTES = 1 << 20
"""Longest line that is taken for a record; a longer one is damage, and is never held in memory."""
DAMAGED = -1
_BLOCK_BYTES = 1 << 20
_LISTED = 8
"""Ranges of damaged lines that a warning lists."""

_NUMBER = rb"(?:-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?(?:e[-+]?[0-9]{1,3})?|NaN|-?Infinity)"
# Possessive (*+): a line that fails at its end is not tried again in every other way.
_RECORD = re.compile(
    rb'\{"step": ([0-9]{1,18})(?:, "[^"\\\x00-\x1f\x7f-\xff]*": ' + _NUMBER + rb")*+\}\r?\n?"
)


class Line(NamedTuple):
    """A line of the file.

    Attributes:
      number: its number, from 1.
      start, end: its first byte, and the one after its last, the newline included.
      step: its step; DAMAGED of a line that is no record.
      content: its bytes; empty for a line longer than MAX_LINE_BYTES.
    """

    number: int
    start: int
    end: int
    step: int
    content: bytes


class Damage:
    """The damaged lines of a file, as ranges of lines that follow one another."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int, int, int]] = []  # first and last line, first byte and end

    def add(self, line: Line) -> None:
        """Add a line; lines may come in any order."""
        for place in range(len(self.ranges) - 1, -1, -1):
            first, last, start, end = self.ranges[place]
            if end == line.start:
                self.ranges[place] = (first, line.number, start, line.end)
                return
            if start == line.end:
                self.ranges[place] = (line.number, last, line.start, end)
                return
            if end < line.start:
                self.ranges.insert(place + 1, (line.number, line.number, line.start, line.end))
                return
        self.ranges.insert(0, (line.number, line.number, line.start, line.end))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __str__(self) -> str:
        count = sum(last - first + 1 for first, last, _, _ in self.ranges)
        listed = [f"{a}" if a == b else f"{a}-{b}" for a, b, _, _ in self.ranges[:_LISTED]]
        more = ["..."] if len(self.ranges) > _LISTED else []
        lines = "line" if count == 1 else "lines"
        return f"{count} damaged {lines} ({', '.join(listed + more)})"


def read_records(path: Path) -> Iterator[dict]:
    """Yield the records of a metrics file in order; damaged lines are passed over with one warning.

    Args:
      path: the file; one that is missing holds no records.
    """
    damage = Damage()
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in _undamaged(file, damage):
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
                steps = map(_step, file.read(end - position).splitlines()[::-1])
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
        for line in _undamaged(file, damage):
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


def _undamaged(file: BinaryIO, damage: Damage) -> Iterator[Line]:
    """Yield the records of a file in order of their steps; all other lines are added to `damage`."""
    before = -1
    pending: Line | None = None
    for line in _lines(file):
        if line.step == DAMAGED:
            damage.add(line)
            continue
        if pending is not None and line.step < pending.step:
            # One of two steps is wrong: the earlier line's, if this one suits what stands before it.
            if line.step < before:
                damage.add(line)
                continue
            damage.add(pending)
        elif pending is not None:
            yield pending
            before = pending.step
        pending = line
    if pending is not None:
        yield pending


def _lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a file, each with its step."""
    number, start = 0, 0
    while content := file.readline(MAX_LINE_BYTES):
        number += 1
        end = start + len(content)
        if len(content) == MAX_LINE_BYTES and not content.endswith(b"\n"):
            while rest := file.readline(MAX_LINE_BYTES):
                end += len(rest)
                if rest.endswith(b"\n"):
                    break
            content = b""
        yield Line(number, start, end, _step(content), content)
        start = end


def _step(line: bytes) -> int:
    """Return the step of a record; DAMAGED of a line that is none."""
    if match := _RECORD.fullmatch(line):
        return int(match[1])
    # Written by another hand: names with escapes, other spaces, whole numbers of many digits.
    try:
        record = json.loads(line)
        step = record.pop("step")
        values = [float(value) for value in record.values() if type(value) in (int, float)]
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError):
        return DAMAGED
    is_step = type(step) is int and 0 <= step < 2**63
    return step if is_step and len(values) == len(record) else DAMAGED


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
