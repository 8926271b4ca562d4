"""Compare runs on the same images and the same noise: tables, differences by pairs, figures, a page.

    python -m experiments.compare --workdirs=runs/digits_linear,runs/digits --out=runs/comparison

Writes index.html, which opens from disk, the figures as PNG and PDF, the tables as CSV and LaTeX.
The first run is what the others are compared with. With --group_by, runs that differ only in their
seed form groups, and intervals between seeds say what another seed would give:

    python -m experiments.compare --workdirs=A-0,A-1,A-2,B-0,B-1,B-2 --group_by=schedule.name --out=DIR
"""

from absl import flags

from experiments.cli import launcher

_WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of two or more runs.", required=True)
_OUT = flags.DEFINE_string("out", None, "The folder to write into.", required=True)
_SPLIT = flags.DEFINE_string("split", "test", "Which images.")
_TIMESTEPS = flags.DEFINE_integer(
    "timesteps",
    None,
    "T of the bound, 0 = continuous time; as trained if not given.",
    lower_bound=0,
)
_RANDOMISATIONS = flags.DEFINE_integer("randomisations", 8, "Independent ones.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "Of times and noise.", lower_bound=0, upper_bound=2**32 - 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at once.", lower_bound=1)
_STEP = flags.DEFINE_string("step", "latest", "Which checkpoints: latest, best, or their step.")
_GROUP_BY = flags.DEFINE_list(
    "group_by", [], "Fields of the configuration that tell groups of seeds apart."
)
_ALLOW_DIFFERENT = flags.DEFINE_list(
    "allow_different", [], "Fields, such as data.content_hash, that may differ within a column."
)


def main():
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from experiments.reports.comparison import numbers, page, text
    from vdm.evaluation.evaluate import Estimation
    from vdm.runs import provenance
    from vdm.runs.folder import check_writable
    from vdm.runs.parts import use_compilation_cache

    out = Path(_OUT.value)
    check_writable(out, "--out")
    use_compilation_cache()
    runs, groups, differing = numbers.open_runs(
        _WORKDIRS.value, _STEP.value, _BATCH_SIZE.value, _ALLOW_DIFFERENT.value, _GROUP_BY.value
    )
    timesteps = numbers.shared_timesteps(runs, _TIMESTEPS.value)
    estimation = Estimation(timesteps, 1, _RANDOMISATIONS.value, _SEED.value)
    print(provenance.header())
    with StopRequest() as stop:
        found = numbers.run_comparison(
            runs, _SPLIT.value, estimation, stop.check, groups, differing
        )
    print(text.format_tables(found))
    print(f"written to {page.write(out, found)}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
