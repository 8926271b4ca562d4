"""Execution of a grid, each run in a process and a folder of its own, and the summary of all runs."""

import dataclasses
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from experiments.cli.parsing import load_config
from experiments.reports.tables import Table, to_csv
from experiments.sweeps.grid import Point
from experiments.sweeps.outcome import Outcome, look
from vdm.errors import Preempted
from vdm.evaluation.statistics.between_seeds import mean_and_interval
from vdm.runs.folder import write_bytes, write_json
from vdm.types import TERM_NAMES

POLL_SECONDS = 0.2
"""Time between two looks at a running process."""
SEED = "seed"


def run_all(
    grid: Sequence[Point],
    folder: Path,
    command: Callable[[Point, Path], Sequence[str]],
    stop: Callable[[], bool],
) -> list[Outcome]:
    """Start or resume every unfinished run of a sweep, and rewrite the summary after each.

    Args:
      grid: the runs.
      folder: holds a work folder and a NAME.log per run, summary.json and summary.csv.
      command: (point, its work folder) -> arguments of the process that starts or resumes it.
      stop: whether to stop; the run in progress then gets SIGTERM and may save its state.

    Raises:
      Preempted: stopped; running again resumes.
    """
    # All folders first, so that the summary has every run from the start.
    outcomes = [look(point, folder) for point in grid]
    for number, point in enumerate(grid):
        if outcomes[number].status != "finished":
            print(f"[{number + 1}/{len(grid)}] {point.name}", flush=True)
            failure = _run(command(point, folder / point.name), folder / f"{point.name}.log", stop)
            outcomes[number] = look(point, folder, failure)
        if outcomes[number].reason:
            print(f"  {outcomes[number].status}: {outcomes[number].reason}", flush=True)
        write_summary(folder, outcomes)
        if stop():
            raise Preempted("the sweep stopped; run it again to resume")
    return outcomes


def _run(words: Sequence[str], log: Path, stop: Callable[[], bool]) -> str:
    """Run a process until it ends; on a stop request send it SIGTERM once and keep waiting.

    Args:
      words: the command line.
      log: file to which its output is appended.
      stop: whether to stop.

    Returns:
      Why the process failed; "" for success and for a run that can be resumed.
    """
    with log.open("ab") as file:
        # A session of its own: Ctrl-C reaches the sweep alone, which passes it on once.
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            terminated = False
            while process.poll() is None:
                if stop() and not terminated:
                    process.terminate()
                    terminated = True
                time.sleep(POLL_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise

    # The last line is the launcher's "error: ..." wherever it could still print one.
    if process.returncode in (0, Preempted.exit_code):
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"exit code {process.returncode}: {lines[-1] if lines else 'no output'}"


def write_summary(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write summary.json, which `read_summary` reads, and summary.csv."""
    write_json(folder / "summary.json", [dataclasses.asdict(outcome) for outcome in outcomes])
    write_bytes(folder / "summary.csv", to_csv(table(outcomes)))


def read_summary(folder: Path) -> list[Outcome]:
    """Return the outcomes that `write_summary` wrote into `folder`."""
    return [
        Outcome(**outcome)
        for outcome in json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    ]


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return a row per run, in bits/dim; a field that its grid does not vary is empty."""
    fields = _fields(outcomes)
    names = (*TERM_NAMES, "total")
    rows = [
        (
            *(outcome.overrides.get(field) for field in fields),
            outcome.status,
            *(outcome.bits_per_dim.get(name) for name in names),
            outcome.standard_error,
            outcome.reason,
        )
        for outcome in outcomes
    ]
    return Table((*fields, "status", *names, "standard_error", "reason"), rows)


def over_seeds(outcomes: Sequence[Outcome]) -> Table | None:
    """Return a row per combination of the other fields: mean total and 95 % interval between seeds.

    None where some run has no seed among its overrides.
    """
    if any(SEED not in outcome.overrides for outcome in outcomes):
        return None
    fields = [field for field in _fields(outcomes) if field != SEED]
    groups: dict[tuple[str | None, ...], list[float]] = {}
    for outcome in outcomes:
        values = groups.setdefault(tuple(outcome.overrides.get(field) for field in fields), [])
        if outcome.status == "finished":
            values.append(outcome.bits_per_dim["total"])
    rows = [(*key, len(values), *mean_and_interval(values)) for key, values in groups.items()]
    return Table((*fields, "seeds", "total", "interval_95"), rows)


def _fields(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the fields that any run overrides; runs of several grids vary different fields."""
    return list(dict.fromkeys(field for outcome in outcomes for field in outcome.overrides))


def read_study(
    path: str, num_steps: int | None
) -> tuple[config_dict.ConfigDict, Callable[[Point, Path], list[str]]]:
    """Load a study's configuration, and make the command for `run_all`.

    Args:
      path: the configuration file.
      num_steps: training steps of every run; None = as the file says.
    """
    config = load_config(path)
    common = {} if num_steps is None else {"train.num_steps": num_steps}
    config.update_from_flattened_dict(common)
    return config, functools.partial(train_command, path, common)


def train_command(path: str, overrides: Mapping[str, Any], point: Point, folder: Path) -> list[str]:
    """Return the command line that starts or resumes one run by `experiments.train`.

    Args:
      path: the configuration file.
      overrides: {dotted field: value} of all runs.
      point: the run, whose overrides are added.
      folder: its work folder.
    """
    words = [sys.executable, "-m", "experiments.train", f"--config={path}", f"--workdir={folder}"]
    changes = {**overrides, **point.overrides}
    return words + [f"--config.{name}={_text(value)}" for name, value in changes.items()]


def _text(value: Any) -> str:
    """Return a value as a flag takes it: tuples with commas."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
