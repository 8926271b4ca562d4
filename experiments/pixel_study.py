"""One gamma for all, one per pixel, one per pixel and image: equal end points and steps, over seeds.

    python -m experiments.pixel_study --workdir=runs/pixel_study

Trains a line, a polynomial per pixel and one conditional on the image from configs/digits_study.py, 9
runs of about a minute on two idle cores, and prints all four terms with intervals between seeds. Run it
again to resume; what is trained is not trained again. Writes pixel_study.csv and .tex, and
pixel_study_steps.csv with the time of a training step, measured in turns.
"""

from absl import flags

from experiments import launcher

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of all runs.", required=True)
_CONFIG_FILE = flags.DEFINE_string("config_file", "configs/digits_study.py", "What is varied.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Training seeds of each, 0 upwards.", lower_bound=1)
_STEPS = flags.DEFINE_integer("num_steps", None, "Steps of each run; the file's if not given.")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "How often a step is timed.", lower_bound=3)


def main():
    from pathlib import Path

    from experiments import build, grid, pixel_studying, sweeping, tables, workdir
    from experiments.signals import StopRequest

    folder = Path(_WORKDIR.value)
    workdir.check_writable(folder)
    build.use_compilation_cache()
    config, command = sweeping.read_study(_CONFIG_FILE.value, _STEPS.value)
    with workdir.locked(folder), StopRequest() as stop:
        runs = [p for a in pixel_studying.axes(_SEEDS.value) for p in grid.points(config, a)]
        outcomes = sweeping.run_all(runs, folder, command, stop)
        timed = pixel_studying.time_steps(runs, _ROUNDS.value, stop.check)
    found = pixel_studying.summary(outcomes)
    print(sweeping.format_table(found))
    print("\ntraining steps, in turns\n" + sweeping.format_table(timed))
    workdir.write_bytes(folder / "pixel_study.csv", tables.to_csv(found))
    workdir.write_bytes(folder / "pixel_study.tex", tables.to_latex(found))
    workdir.write_bytes(folder / "pixel_study_steps.csv", tables.to_csv(timed))
    print(f"written to {folder / 'pixel_study.csv'}")
    return int(any(one.status != "finished" for one in outcomes))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
