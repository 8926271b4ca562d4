"""Compare one gamma for all pixels, one per pixel, and one per pixel and image, over training seeds.

    python -m experiments.studies.per_pixel --workdir=runs/pixel_study

Trains the log-SNR line, a polynomial per pixel and a polynomial conditional on the image with equal
fixed end points and equal steps: 9 runs of about a minute on two idle cores. Prints all four terms
with intervals between seeds. Run it again to resume; finished runs are not trained again. Writes
pixel_study.csv and .tex, and pixel_study_steps.csv with the time of a training step, measured in
turns.
"""

from absl import flags

from experiments.cli import launcher
from experiments.studies import study_flags

_WORKDIR = study_flags.workdir()
_CONFIG_FILE = study_flags.config_file()
_SEEDS = study_flags.seeds()
_STEPS = study_flags.num_steps()
_ROUNDS = flags.DEFINE_integer(
    "rounds", 20, "Number of timings of a training step, at least 3.", lower_bound=3
)


def main():
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from experiments.reports import tables
    from experiments.studies import per_pixel_summary
    from experiments.sweeps import grid, runner
    from vdm.runs.folder import check_writable, locked, write_bytes
    from vdm.runs.parts import use_compilation_cache

    folder = Path(_WORKDIR.value)
    check_writable(folder)
    use_compilation_cache()
    config, command = runner.read_study(_CONFIG_FILE.value, _STEPS.value)
    with locked(folder), StopRequest() as stop:
        runs = [p for a in per_pixel_summary.axes(_SEEDS.value) for p in grid.points(config, a)]
        outcomes = runner.run_all(runs, folder, command, stop)
        timed = per_pixel_summary.time_steps(runs, _ROUNDS.value, stop.check)
    terms = per_pixel_summary.summary(outcomes)
    print(tables.format_table(terms))
    print("\ntraining steps, in turns\n" + tables.format_table(timed))
    write_bytes(folder / "pixel_study.csv", tables.to_csv(terms))
    write_bytes(folder / "pixel_study.tex", tables.to_latex(terms))
    write_bytes(folder / "pixel_study_steps.csv", tables.to_csv(timed))
    print(f"written to {folder / 'pixel_study.csv'}")
    return int(any(one.status != "finished" for one in outcomes))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
