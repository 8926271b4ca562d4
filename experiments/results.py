"""Print the stored evaluations of several runs as one Markdown table.

    python -m experiments.results --workdirs=runs/digits,runs/digits_linear

A row per number in evaluations/*.json: run, family, schedule, hash of the configuration, split and
number of images, checkpoint step, bound, bits/dim ± standard error over images, Monte Carlo error,
T_train, T_eval, dtype and matmul precision, revision, and the day on which the record was written.
Nothing is evaluated.
"""

from absl import flags

from experiments.cli import launcher

_WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of runs.", required=True)


def main():
    from experiments.reports import results
    from experiments.reports.tables import to_markdown
    from vdm.errors import CheckpointError

    found = results.collect(_WORKDIRS.value)
    if not found.table.rows:
        reasons = "; ".join(found.notes) or "no evaluations/*.json"
        raise CheckpointError(
            f"--workdirs={','.join(_WORKDIRS.value)}: hold no evaluation that can be shown "
            f"({reasons}); make one with python -m experiments.evaluate --workdir=RUN"
        )
    print(to_markdown(found.table))
    if found.notes:
        print("\n" + "\n".join(f"- {note}" for note in found.notes))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
