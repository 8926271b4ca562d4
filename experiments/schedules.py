"""What trained schedules bought: curves, the variance of the bound, the signal in the gradients.

    python -m experiments.schedules --workdirs=runs/digits_linear,runs/digits_learned --out=runs/shapes

Writes index.html, which opens from disk, its figures as PNG and PDF, its tables as CSV and LaTeX. The
first run is what the others are compared with; each is also compared with the log-SNR line between its
own end points. Everything is measured in continuous time on the test split.
"""

from absl import flags

from experiments.cli import launcher

_WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of runs.", required=True)
_OUT = flags.DEFINE_string("out", None, "The folder to write into.", required=True)
_DRAWS = flags.DEFINE_integer("draws", 64, "Times and noises per image.", lower_bound=2)
_GRADIENTS = flags.DEFINE_integer(
    "gradients",
    32,
    "Gradients per run, of a training batch each; 0 = leave them out.",
    lower_bound=0,
)
_SEED = flags.DEFINE_integer("seed", 0, "Of times and noise.", lower_bound=0, upper_bound=2**32 - 1)
_STEP = flags.DEFINE_string("step", "latest", "Which checkpoints: latest, best, or their step.")


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
    check_writable(out, "--out")
    use_compilation_cache()
    print(provenance.header())
    found = []
    with StopRequest() as stop:
        for folder in _WORKDIRS.value:
            opened = schedule_numbers.open_run(folder, Path(folder).name, _STEP.value)
            found.append(
                schedule_numbers.measure(
                    *opened, _DRAWS.value, _GRADIENTS.value, _SEED.value, stop.check
                )
            )
    for table in (schedules.variances(found), schedules.signals(found)):
        print(format_table(table))
    spec = found[0].run.parts.dataset.spec
    facts = (
        f"{spec.split_sizes['test']} images of {spec.name}/test, {_DRAWS.value} draws each, continuous "
        f"time, seed {_SEED.value}; averaged parameters, checkpoint steps "
        f"{', '.join(f'{one.run.name} {one.run.step}' for one in found)}; "
        f"one training seed each. {spec.notes}"
    )
    print(f"written to {schedules.write(out, found, facts)}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
