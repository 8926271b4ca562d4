"""Every schedule at equal end points and equal steps, over seeds: train, measure, one table and figure.

    python -m experiments.studies.schedules --workdir=runs/study

Trains what `experiments.studies.schedules_summary` lists from configs/digits.py:study, 27 runs of at
most 45 seconds on two idle cores, then measures the variance of each one's bound: about 25 minutes in
all. Run it again to resume; what is trained or measured is not done again. Writes index.html, study.csv
and study.png.
"""

from absl import flags

from experiments.cli import launcher

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of all runs.", required=True)
_CONFIG_FILE = flags.DEFINE_string("config_file", "configs/digits.py:study", "What is varied.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Training seeds per schedule, 0 upwards.", lower_bound=1)
_DRAWS = flags.DEFINE_integer("draws", 32, "Times and noises per image.", lower_bound=2)
_STEPS = flags.DEFINE_integer("num_steps", None, "Steps of each run; the file's if not given.")


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
    found = schedules_summary.by_schedule(results)
    print(format_table(schedules_summary.summary(found)))
    facts = (
        f"{len(results)} runs of {config.train.num_steps} steps from {_CONFIG_FILE.value}; test "
        f"images; variances in continuous time given the image, {_DRAWS.value} draws each, averaged "
        "parameters. Intervals: 95 % between training seeds."
    )
    print(f"written to {schedules_summary.write(folder, found, facts)}")
    return int(len(results) < len(outcomes))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
