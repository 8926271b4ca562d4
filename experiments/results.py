"""Print the stored evaluations of several runs as one Markdown table.

    python -m experiments.results --workdirs=runs/digits,runs/digits_linear

A row per number in evaluations/*.json: run, family, schedule, hash of the configuration, split and
number of images, checkpoint step, bound, bits/dim ± standard error over images, Monte Carlo error,
T_train, T_eval, dtype and matmul precision, revision, and the day on which the record was written.
Nothing is evaluated.
"""

from experiments.cli import evaluation_flags, launcher

_WORKDIRS = evaluation_flags.workdirs("Work folders of the runs, separated by commas.")


def main():
    from experiments.reports import results
    from experiments.reports.tables import to_markdown
    from vdm.errors import CheckpointError

    collected = results.collect(_WORKDIRS.value)
    if not collected.table.rows:
        reasons = "; ".join(collected.notes) or "no evaluations/*.json"
        raise CheckpointError(
            f"--workdirs={','.join(_WORKDIRS.value)}: hold no evaluation that can be shown "
            f"({reasons}); make one with python -m experiments.evaluate --workdir=RUN"
        )
    print(to_markdown(collected.table))
    if collected.notes:
        print("\n" + "\n".join(f"- {note}" for note in collected.notes))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
