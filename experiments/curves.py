"""Draw how runs learned: training loss and validation bits/dim against images seen.

    python -m experiments.curves --workdirs=runs/digits,runs/digits_learned --out=runs/curves

Writes learning.png, learning.pdf and learning.csv. The runs may be of different data and need not
be finished: only what they logged in metrics.jsonl is read, and nothing is evaluated. Losses are of the
parameters being trained, validations of the averaged ones in one randomisation; neither has an error.
`experiments.compare` says whether runs differ.
"""

from experiments.cli import evaluation_flags, launcher

_WORKDIRS = evaluation_flags.workdirs("Work folders of runs, separated by commas.")
_OUT = evaluation_flags.out()


def main():
    from pathlib import Path

    from experiments.reports import learning
    from vdm.errors import CheckpointError
    from vdm.runs import history
    from vdm.runs.folder import check_writable, distinct_names, require_identity

    out = Path(_OUT.value)
    check_writable(out, "--out")
    # Folders of the same last name would share one line of the legend.
    names = distinct_names(_WORKDIRS.value)
    runs = {name: Path(folder) for name, folder in zip(names, _WORKDIRS.value, strict=True)}
    # All are looked at before the figure is drawn, which would otherwise lack a curve.
    for folder in runs.values():
        require_identity(folder, "--workdirs")
        if not len(history.training_curves(folder)["step"]):
            raise CheckpointError(f"--workdirs={folder}: nothing is logged in it yet; train on")
    print(f"written to {learning.write(out, runs)}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
