"""Measure what trained schedules gained: curves, the bound's variance, the gradients' signal-to-noise.

    python -m experiments.schedules --workdirs=runs/digits_linear,runs/digits_learned --out=runs/curves

Writes index.html, which opens from disk, its figures as PNG and PDF, its tables as CSV and LaTeX. The
first run is what the others are compared with; each is also compared with the log-SNR line between its
own end points. Everything is measured in continuous time on the test split.
A scalar schedule's interior leaves the bound as it is and changes its estimate's variance alone (Kingma
et al. 2021, arXiv:2107.00630, sec. 5). A run costs 4 x --draws network evaluations per test image (two
schedules, times independent or stratified), and --gradients training gradients.
"""

from absl import flags

from experiments.cli import evaluation_flags, launcher

_WORKDIRS = evaluation_flags.workdirs(
    "Work folders of trained runs, separated by commas; the first is the reference."
)
_OUT = evaluation_flags.out()
# The variance is that between draws of one image, not that between images.
_DRAWS = flags.DEFINE_integer(
    "draws", 64, "Number of draws of time and noise per image, at least 2.", lower_bound=2
)
# Each gradient costs a forward and a backward pass of a training batch.
_GRADIENTS = flags.DEFINE_integer(
    "gradients",
    32,
    "Number of gradients per run, each of another training batch; at least 3, or 0 to measure none.",
    lower_bound=0,
)
_SEED = evaluation_flags.seed(0, "times and noise")
_STEP = evaluation_flags.step("Checkpoint that is read of each run")


def main():
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from experiments.reports import schedule_numbers, schedules
    from experiments.reports.tables import format_table
    from vdm.errors import ConfigError
    from vdm.runs import provenance
    from vdm.runs.folder import check_writable
    from vdm.runs.parts import use_compilation_cache

    if _GRADIENTS.value in (1, 2):
        raise ConfigError(f"--gradients={_GRADIENTS.value}: an interval needs at least 3, or 0")
    out = Path(_OUT.value)
    check_writable(out, "--out")  # before minutes of measuring
    use_compilation_cache()

    # A signal ends it between batches, and nothing is written before all runs are measured.
    print(provenance.header())
    measured = []
    with StopRequest() as stop:
        for folder in _WORKDIRS.value:
            # Besides the parameters, the density of times where training adapted it: the variance
            # is that of the estimate that training used.
            opened = schedule_numbers.open_run(folder, Path(folder).name, _STEP.value)
            measured.append(
                schedule_numbers.measure(
                    *opened, _DRAWS.value, _GRADIENTS.value, _SEED.value, stop.check
                )
            )

    # On the terminal first: a page that cannot be written must not cost the measurements.
    for table in (schedules.variances(measured), schedules.signals(measured)):
        print(format_table(table))
    # The variances hold for these networks: one seed each, which the page must say.
    spec = measured[0].run.parts.dataset.spec
    # Whatever the numbers depend on stands on the page, which may be read without its command.
    facts = (
        f"{spec.split_sizes['test']} images of {spec.name}/test, {_DRAWS.value} draws each, continuous "
        f"time, seed {_SEED.value}; averaged parameters, checkpoint steps "
        f"{', '.join(f'{one.run.name} {one.run.step}' for one in measured)}; "
        f"one training seed each. {spec.notes}"
    )
    print(f"written to {schedules.write(out, measured, facts)}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
