"""One table of published numbers from the evaluations stored in work folders.

Nothing is evaluated, and no number is typed: every cell comes from a record in evaluations/*.json, the
date from the file itself. Records of another checkpoint, configuration or data are left out.
"""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reports.tables import Table, show
from vdm.runs.folder import distinct_names, require_identity
from vdm.runs.record import steps_name
from vdm.runs.stored import read_all
from vdm.types import TERM_NAMES

COLUMNS = (
    "run",
    "family",
    "schedule",
    "config",
    "data/split",
    "images",
    "step",
    "bound",
    "bits/dim ± s.e.",
    "Monte Carlo",
    "T_train",
    "T_eval",
    "precision",
    "revision",
    "date",
)
HASH_LETTERS = 8


class Results(NamedTuple):
    """The table, and what a reader must know about its records.

    Attributes:
      table: a row per stored number; rows of equal data and split stand together, by family.
      notes: one line per record that is left out or that nothing vouches for, with the reason.
    """

    table: Table
    notes: tuple[str, ...]


def collect(folders: Sequence[str]) -> Results:
    """Collect the stored evaluations of several runs into one table.

    Args:
      folders: work folders.

    Raises:
      CheckpointError: a folder that holds no run.
    """
    rows: list[tuple] = []
    notes = []
    for name, folder in zip(distinct_names(folders), map(Path, folders), strict=True):
        identity = require_identity(folder, "--workdirs")
        for file, stored in read_all(folder, identity).items():
            if "table" in stored.facts:
                continue  # of several bounds, each of which has a record of its own
            date = _date(folder / "evaluations" / file)
            # An "unverified" record is of this run, as far as an earlier revision can tell.
            is_shown = not stored.fault or (stored.fault == "unverified" and bool(stored.facts))
            fault, reason = stored.fault, stored.reason
            try:
                rows += _rows(name, stored.facts, date) if is_shown else []
            # Without a hash over itself, a record may have lost anything.
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                is_shown, fault = False, "damaged"
                reason = f"it lacks what a record has ({type(error).__name__}: {error})"
            if fault:
                what = fault if is_shown else f"{fault}, left out"
                notes.append(f"{name}/{file}: {what}: {reason}")

    # Families and schedules are compared on the same images; Python's sort keeps the order of runs.
    place = {column: number for number, column in enumerate(COLUMNS)}
    rows.sort(key=lambda row: (row[place["data/split"]], row[place["family"]]))
    return Results(Table(COLUMNS, rows), tuple(notes))


def _rows(name: str, facts: Mapping[str, Any], date: str) -> list[tuple]:
    """Return a row of COLUMNS for each total of a record; bounds such as iwae have several."""
    estimates = {n: e for n, e in facts["bits_per_dim"].items() if n not in TERM_NAMES}
    trained = facts["timesteps_train"]
    missing = facts.get("missing_images", 0)
    rows = []
    for total, estimate in estimates.items():
        error = estimate["standard_error"]
        bits = show(estimate["mean"]) + ("" if error is None else f" ± {show(error)}")
        row = (
            name,
            # Records of before there were families, and families without a schedule.
            facts.get("family", "vdm"),
            facts.get("schedule", ""),
            facts["hashes"]["config"][:HASH_LETTERS],
            f"{facts['data']['name']}/{facts['split']}",
            str(facts["num_images"]) + (f" ({missing} missing)" if missing else ""),
            facts["checkpoint_step"],
            facts["bound"] if total == "total" else f"{facts['bound']}, {total}",
            bits,
            estimate["monte_carlo_error"],
            steps_name(trained),
            steps_name(None if trained is None else facts["timesteps_eval"]),
            f"{facts['dtype']}, {facts['provenance']['matmul_precision']}",
            facts["provenance"]["git_revision"],
            date,
        )
        rows.append(row)
    return rows


def _date(path: Path) -> str:
    """Return the day on which a record was written (UTC), as its file says; records hold no date."""
    written = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    return written.date().isoformat()
