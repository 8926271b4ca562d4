"""Compare all schedules with equal end points and equal steps, over training seeds.

    python -m experiments.studies.schedules --workdir=runs/study

Trains what `experiments.studies.schedules_summary` lists from configs/digits.py:study, 27 runs of at
most 45 seconds on two idle cores, then measures the variance of each one's bound: about 25 minutes in
all. Run it again to resume; nothing is trained or measured twice. Writes index.html, study.csv
and study.png.
"""

from absl import flags

from experiments.cli import launcher
from experiments.studies import study_flags

_WORKDIR = study_flags.workdir()
_CONFIG_FILE = study_flags.config_file()
_SEEDS = study_flags.seeds()
_DRAWS = flags.DEFINE_integer(
    "draws", 32, "Number of draws of time and noise per image, at least 2.", lower_bound=2
)
_STEPS = study_flags.num_steps()


def main():
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from experiments.reports.tables import format_table
    from experiments.studies import schedules_summary
    from experiments.sweeps import grid, runner
    from vdm.runs.folder import check_writable, locked
    from vdm.runs.parts import use_compilation_cache

    folder = Path(_WORKDIR.value)
    check_writable(folder)
    use_compilation_cache()
    config, command = runner.read_study(_CONFIG_FILE.value, _STEPS.value)
    outcomes, results = [], []
    with locked(folder), StopRequest() as stop:
        runs = [
            point
            for axes in schedules_summary.axes(_SEEDS.value)
            for point in grid.points(config, axes)
        ]
        outcomes = runner.run_all(runs, folder, command, stop)
        for outcome in outcomes:
            if result := schedules_summary.measure(outcome, folder, _DRAWS.value, stop.check):
                results.append(result)
    by_schedule = schedules_summary.by_schedule(results)
    print(format_table(schedules_summary.summary(by_schedule)))
    facts = (
        f"{len(results)} runs of {config.train.num_steps} steps from {_CONFIG_FILE.value}; test "
        f"images; variances in continuous time given the image, {_DRAWS.value} draws each, averaged "
        "parameters. Intervals: 95 % between training seeds."
    )
    print(f"written to {schedules_summary.write(folder, by_schedule, facts)}")
    return int(len(results) < len(outcomes))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
