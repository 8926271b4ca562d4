"""Runs of a grid one after another, each in a process and a folder of its own, and their summary."""

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
from vdm.errors import CheckpointError, DataError, Preempted
from vdm.evaluation.statistics.between_seeds import mean_and_interval
from vdm.runs import config_identity, evaluations, record
from vdm.runs.dataset import open_dataset
from vdm.runs.folder import read_identity, write_bytes, write_json
from vdm.training.checkpoint_folder import saved_ema_hash
from vdm.types import TERM_NAMES

POLL_SECONDS = 0.2
SEED = "seed"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
      name: its folder.
      overrides: {dotted field: value as text}.
      status: "finished", "failed" or "unfinished".
      reason: of a failure: the last line that the run said.
      bits_per_dim: {term: mean} with "total"; empty unless finished.
      standard_error: of the total over images.
      hashes: {"checkpoint", "config", "data"} of the evaluation; empty unless finished.
    """

    name: str
    overrides: dict[str, str]
    status: str
    reason: str = ""
    bits_per_dim: dict[str, float] = dataclasses.field(default_factory=dict)
    standard_error: float | None = None
    hashes: dict[str, str] = dataclasses.field(default_factory=dict)


def run_all(
    grid: Sequence[Point],
    folder: Path,
    command: Callable[[Point, Path], Sequence[str]],
    stop: Callable[[], bool],
) -> list[Outcome]:
    """Runs what is not finished, and writes the summary anew after each run.

    Args:
      grid: the runs.
      folder: holds a work folder and a NAME.log per run, summary.json and summary.csv.
      command: (point, its work folder) -> the words of a process that starts or resumes it.
      stop: whether to stop; the run in progress then gets SIGTERM and may save its state.

    Raises:
      Preempted: stopped; running again resumes.
    """
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


def look(point: Point, folder: Path, failure: str = "") -> Outcome:
    """What the work folder says; `failure` is what its process said, if it failed."""
    unfinished = Outcome(
        point.name, point.overrides, "failed" if failure else "unfinished", failure
    )
    try:
        saved = read_identity(folder / point.name)
    except CheckpointError as error:
        return dataclasses.replace(unfinished, status="failed", reason=str(error))
    if saved is None or failure:
        return unfinished
    config = config_identity.keep_earlier_defaults(saved["config"], point.config)
    if changed := config_identity.config_changes(saved["config"], config):
        fields = ", ".join(f"{n} {old!r} -> {new!r}" for n, (old, new) in changed.items())
        reason = f"the folder holds another run ({fields}); choose another --workdir"
        return dataclasses.replace(unfinished, status="failed", reason=reason)
    facts = _current_report(config, folder / point.name)
    if facts is None:
        return unfinished
    terms = {name: facts["bits_per_dim"][name]["mean"] for name in (*TERM_NAMES, "total")}
    return dataclasses.replace(
        unfinished,
        status="finished",
        bits_per_dim=terms,
        standard_error=facts["bits_per_dim"]["total"]["standard_error"],
        hashes=dict(facts["hashes"]),
    )


def _current_report(config: Mapping[str, Any], run: Path) -> Mapping[str, Any] | None:
    """The final evaluation of a run, if it is of this checkpoint, configuration and data."""
    estimation = record.make_estimation(config["evaluate"], config["objective"]["num_timesteps"])
    step = config["train"]["num_steps"]
    path = record.report_path(run, config["evaluate"]["split"], step, estimation)
    if not path.exists():
        return None
    try:
        checkpoint = saved_ema_hash(run / "checkpoints", step)
        data = open_dataset(config["data"], config["data"]["cache_dir"], prepare=False)
    except (CheckpointError, DataError):
        return None  # the run itself says what is wrong
    hashes = {"checkpoint": checkpoint, "data": data.spec.content_hash}
    found = evaluations.read(path, record.wanted(config, hashes, step, estimation))
    return None if found is None or found.fault else found.facts


def _run(words: Sequence[str], log: Path, stop: Callable[[], bool]) -> str:
    """Why the process failed, or ""; it gets SIGTERM when the sweep is to stop."""
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
            told = False
            while process.poll() is None:
                if stop() and not told:
                    process.terminate()
                    told = True
                time.sleep(POLL_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode in (0, Preempted.exit_code):
        return ""
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"exit code {process.returncode}: {lines[-1] if lines else 'no output'}"


def write_summary(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """summary.json and summary.csv."""
    write_json(folder / "summary.json", [dataclasses.asdict(one) for one in outcomes])
    write_bytes(folder / "summary.csv", to_csv(table(outcomes)))


def read_summary(folder: Path) -> list[Outcome]:
    """What `write_summary` wrote."""
    return [Outcome(**one) for one in json.loads((folder / "summary.json").read_text())]


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row per run; a field that its grid does not vary is empty."""
    fields = _fields(outcomes)
    names = (*TERM_NAMES, "total")
    rows = [
        (
            *(one.overrides.get(field) for field in fields),
            one.status,
            *(one.bits_per_dim.get(name) for name in names),
            one.standard_error,
            one.reason,
        )
        for one in outcomes
    ]
    return Table((*fields, "status", *names, "standard_error", "reason"), rows)


def over_seeds(outcomes: Sequence[Outcome]) -> Table | None:
    """A row per combination of the other fields: mean and 95 % interval between seeds."""
    if any(SEED not in one.overrides for one in outcomes):
        return None
    fields = [field for field in _fields(outcomes) if field != SEED]
    groups: dict[tuple[str | None, ...], list[float]] = {}
    for one in outcomes:
        values = groups.setdefault(tuple(one.overrides.get(field) for field in fields), [])
        if one.status == "finished":
            values.append(one.bits_per_dim["total"])
    rows = [(*key, len(values), *mean_and_interval(values)) for key, values in groups.items()]
    return Table((*fields, "seeds", "total", "interval_95"), rows)


def _fields(outcomes: Sequence[Outcome]) -> list[str]:
    """What any run overrides; runs of several grids vary different fields."""
    return list(dict.fromkeys(field for one in outcomes for field in one.overrides))


def read_study(
    path: str, num_steps: int | None
) -> tuple[config_dict.ConfigDict, Callable[[Point, Path], list[str]]]:
    """What a study varies, perhaps with other steps than its file says, and `run_all`'s command."""
    config = load_config(path)
    common = {} if num_steps is None else {"train.num_steps": num_steps}
    config.update_from_flattened_dict(common)
    return config, functools.partial(train_command, path, common)


def train_command(path: str, overrides: Mapping[str, Any], point: Point, folder: Path) -> list[str]:
    """`experiments.train` with the overrides of all runs and those of one."""
    words = [sys.executable, "-m", "experiments.train", f"--config={path}", f"--workdir={folder}"]
    changes = {**overrides, **point.overrides}
    return words + [f"--config.{name}={_text(value)}" for name, value in changes.items()]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
