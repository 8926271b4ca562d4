"""Compare runs on the same images and the same noise: tables, differences by pairs, figures, a page.

    python -m experiments.compare --workdirs=runs/digits_linear,runs/digits --out=runs/comparison

Writes index.html, which opens from disk, the figures as PNG and PDF, the tables as CSV and LaTeX.
The first run is what the others are compared with. With --group_by, runs that differ only in their
seed form groups, and intervals between seeds say what another seed would give:

    python -m experiments.compare --workdirs=A-0,A-1,A-2,B-0,B-1,B-2 --group_by=schedule.name --out=DIR

Each run costs --randomisations network evaluations per image of the split, 8 by default.
"""

from absl import flags

from experiments.cli import evaluation_flags, launcher

_WORKDIRS = evaluation_flags.workdirs(
    "Work folders of two or more trained runs, separated by commas; the first is the reference."
)
_OUT = evaluation_flags.out()
_SPLIT = evaluation_flags.split("test")
_TIMESTEPS = evaluation_flags.timesteps()
_RANDOMISATIONS = evaluation_flags.randomisations(8)
_SEED = evaluation_flags.seed(0, "times and noise")
_STEP = evaluation_flags.step("Checkpoint that is read of each run")
_BATCH_SIZE = evaluation_flags.batch_size()
_GROUP_BY = flags.DEFINE_list(
    "group_by",
    [],
    "Fields of the configuration, separated by commas, that tell groups of runs apart; within a group "
    "the runs differ in their training seed alone. Default: no groups.",
)
_ALLOW_DIFFERENT = flags.DEFINE_list(
    "allow_different",
    [],
    "Fields, separated by commas, in which runs may differ although their numbers are then of "
    "different things, such as data.content_hash. Default: none.",
)


def main():
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from experiments.reports.comparison import numbers, page, text
    from vdm.evaluation.evaluate import Estimation
    from vdm.runs import provenance
    from vdm.runs.folder import check_writable
    from vdm.runs.parts import use_compilation_cache

    # Refused now rather than after an evaluation of every run.
    out = Path(_OUT.value)
    check_writable(out, "--out")
    use_compilation_cache()
    # Opened together, as runs of different data or settings are refused before anything is computed.
    runs, groups, differing = numbers.open_runs(
        _WORKDIRS.value, _STEP.value, _BATCH_SIZE.value, _ALLOW_DIFFERENT.value, _GROUP_BY.value
    )
    # One T for all, as bounds of different T do not compare. One time per image and randomisation is
    # enough, because most of its noise is common to all runs and cancels in their differences.
    timesteps = numbers.shared_timesteps(runs, _TIMESTEPS.value)
    estimation = Estimation(timesteps, 1, _RANDOMISATIONS.value, _SEED.value)

    # Runs are paired by equal noise at equal gamma, not at equal t: schedules reach a noise level at
    # different times (Kingma et al. 2021, arXiv:2107.00630, eq. 18).
    print(provenance.header())
    with StopRequest() as stop:
        comparison = numbers.run_comparison(
            runs, _SPLIT.value, estimation, stop.check, groups, differing
        )
    # The tables first: a page that cannot be written must not cost the evaluations.
    print(text.format_tables(comparison))
    print(f"written to {page.write(out, comparison)}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
