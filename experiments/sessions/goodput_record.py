"""The file goodput.json of a work folder: seconds by category, up to its last writing."""

import dataclasses
import functools
import json
import math
import os
import sys
import time
from pathlib import Path

from vdm.runtime.files import write_whole

NAME = "goodput.json"
_IMPORTED = time.time()


CATEGORIES = {
    "step": "training steps",
    "recomputed": "steps made again",
    "compile": "compilation",
    "data": "waiting for data",
    "save": "saving",
    "restore": "restoring",
    "evaluate": "evaluation",
    "sample": "samples",
    "start": "start-up",
    "idle": "between two starts",
    "earlier": "before this was measured",
}
"""{category: its words in the last line of `train`}.

"recomputed" are the steps that a process killed after its last checkpoint had already made. "compile"
is tracing, lowering and compiling, of the programs for evaluation and samples too. "start" is what
else comes before the first step: imports, opening the data, building. "earlier" is the time of a run
that began before there was an account, from the "seconds" of its checkpoint.
"""


@dataclasses.dataclass(frozen=True)
class Record:
    """Contents of goodput.json.

    Attributes:
      first_start: when the first process of the folder started, seconds since 1970.
      updated: when this was written; the categories add up to `updated` - `first_start`.
      starts: processes so far.
      step: the last step that any of them had got to.
      finished: steps after which the run was evaluated and reported; 0 before that.
      seconds: {category: seconds}.
    """

    first_start: float
    updated: float
    starts: int
    step: int
    finished: int
    seconds: dict[str, float]


def read(folder: Path) -> Record | None:
    """Return the account of a work folder; None without one, and with a warning if it is damaged."""
    path = folder / NAME
    try:
        record = Record(**json.loads(path.read_bytes()))
        numbers = [getattr(record, field.name) for field in dataclasses.fields(Record)[:-1]]
        numbers += record.seconds.values()
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError("a number in it is negative or not finite")
        return record
    except FileNotFoundError:
        return None
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,  # thousands of lists within lists
    ) as error:
        warn(f"WARNING: {path}: cannot be read ({error}); the wall time of earlier starts is lost")
        return None


def write(folder: Path, record: Record, durable: bool) -> None:
    """Replace the account of a work folder; it is never worth ending a run for, so failures warn.

    Args:
      folder: the work folder.
      record: the account.
      durable: whether to wait until it is on the disk.
    """
    path = folder / NAME
    content = json.dumps(dataclasses.asdict(record), indent=2).encode() + b"\n"
    try:
        write_whole(path, content, durable=durable)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        warn(f"WARNING: {path}: cannot be written ({reason}); the account of wall time stops here")


def describe(record: Record) -> str:
    """Return the account as one line, such as "wall time 12 m 3 s: 83 % training steps, ..."."""
    seconds, starts = record.seconds, record.starts
    total = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    shares = {CATEGORIES.get(name, name): 100 * value / total for name, value in ordered if total}
    shown = [f"{share:.0f} % {words}" for words, share in shares.items() if share >= 0.5]
    over = f" over {starts} starts" if starts > 1 else ""
    return f"wall time {_duration(total)}{over}: {', '.join(shown)}"


def _duration(seconds: float) -> str:
    """Return seconds as text: "14 s", "12 m 3 s" or "5 h 40 m"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {rest} s" if minutes else f"{rest} s"


def remove_partial(folder: Path) -> None:
    """Remove what a process left behind that was killed as it wrote the account."""
    for path in folder.glob(f".{NAME}.*.tmp"):
        path.unlink(missing_ok=True)


@functools.cache
def warn(text: str) -> None:
    """Print a warning, each text once."""
    print(text, file=sys.stderr, flush=True)


@functools.cache
def _process_start() -> float:
    """Return when this process started, seconds since 1970, so that its imports count too."""
    try:
        # The 22nd field, in clock ticks since boot; the 2nd, a name in brackets, may hold spaces.
        ticks = int(
            Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        )
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - age if ticks else _IMPORTED
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED  # no Linux


class _Starts:
    taken = False


def take_start() -> float:
    """Return when this run began: as the process did, or now for a second run in one process."""
    if _Starts.taken:
        return time.time()
    _Starts.taken = True
    return _process_start()
