"""Lines of a metrics file: records, and damage such as a power cut or a flipped bit leaves.

A record is {"step": n, name: number, ...}; steps never fall from one line to the next. The whole of
every line is checked, by one regular expression for what `writers.json_lines` writes and by the JSON
parser for all else. A digit that became another one is not noticed, unless it puts a step out of order.
"""

import json
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MAX_LINE_BYTES = 1 << 20
"""Longest line that is taken for a record; a longer one is damage, and is never held in memory."""
DAMAGED = -1
"""Step of a line that is no record."""
_LISTED = 8
"""Ranges of damaged lines that a warning lists."""

# Possessive throughout (++, *+, ?+): nothing is tried in a second way, which takes a third of the time.
_NUMBER = rb"(?:-?+(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]++)?+(?:e[-+]?+[0-9]{1,3}+)?+|NaN|-?Infinity)"
_RECORD = re.compile(
    rb'\{"step": ([0-9]{1,18}+)(?:, "[ !#-\[\]-~]*+": ' + _NUMBER + rb")*+\}\r?+\n?+"
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


def undamaged(file: BinaryIO, damage: Damage) -> Iterator[Line]:
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
        yield Line(number, start, end, step_of(content), content)
        start = end


def step_of(line: bytes) -> int:
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
