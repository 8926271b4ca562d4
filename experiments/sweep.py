"""Train every combination of some overrides, one after another, and summarise.

    python -m experiments.sweep --config=configs/digits.py --workdir=runs/sweep \\
        --grid='schedule.name=linear,cosine;seed=0,1,2' [--config.FIELD=VALUE of all runs ...]

Each run has a work folder in --workdir and a process of its own. Finished runs are skipped, unfinished
ones resumed; a failure is recorded and the rest goes on. A signal stops the run in progress where it
can be resumed (exit code 75). summary.json and summary.csv hold a row per run, NAME.log its output.
The cost is that of one run times the combinations.
"""

from absl import flags
from ml_collections import config_flags

from experiments.cli import launcher

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration of all runs, a Python file with get_config(). Required."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder that holds a work folder for each run. Required.", required=True
)
_GRID = flags.DEFINE_string(
    "grid",
    None,
    "Fields and their values, FIELD=A,B;FIELD=C,D, such as 'seed=0,1;schedule.name=linear,cosine': "
    "every combination is a run. Required.",
    required=True,
)


def main():
    import functools
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from experiments.reports.tables import format_table
    from experiments.sweeps import grid, runner
    from vdm.runs.folder import check_writable, locked

    folder, axes = Path(_WORKDIR.value), grid.read_axes(_GRID.value)
    check_writable(folder)
    flag = flags.FLAGS["config"]
    path = flag.config_filename  # type: ignore[attr-defined]
    # Overrides hold for all runs; each process gets them again, before those of its point.
    common = config_flags.get_override_values(flag)
    # A process for each run: memory and compiled programs go with it, and a crash ends one run alone.
    command = functools.partial(runner.train_command, path, common)
    runs = grid.points(_CONFIG.value, axes)

    # Locked, because two sweeps in one folder would start the same run twice.
    with locked(folder), StopRequest() as stop:
        outcomes = runner.run_all(runs, folder, command, stop)
    print(format_table(runner.table(outcomes)))
    if means := runner.over_seeds(outcomes):
        print("\nbetween seeds, bits/dim\n" + format_table(means))
    print(f"written to {folder / 'summary.json'}")
    # 1 where a run failed or could not be brought to its end.
    return int(any(one.status != "finished" for one in outcomes))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
