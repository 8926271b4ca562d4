"""Show where the bits of a run go: per noise level, channel, pixel, class and image.

    python -m experiments.breakdown --workdir=runs/digits

Writes into breakdown/SPLIT-stepN-.../ of the work folder: index.html, which opens from disk, figures as
PNG and PDF, tables as CSV and LaTeX, the maps as .npz, and the record of the evaluation.
"""

from absl import flags

from experiments.cli import launcher

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run.", required=True)
_OUT = flags.DEFINE_string("out", None, "The folder to write into; within the run's if not given.")
_SPLIT = flags.DEFINE_string("split", "test", "Which images.")
_TIMESTEPS = flags.DEFINE_integer(
    "timesteps",
    None,
    "T of the bound, 0 = continuous time; as trained if not given.",
    lower_bound=0,
)
_REPEATS = flags.DEFINE_integer("repeats", 4, "Times per image.", lower_bound=1)
_RANDOMISATIONS = flags.DEFINE_integer("randomisations", 8, "Independent ones.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "Of times and noise.", lower_bound=0, upper_bound=2**32 - 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at once.", lower_bound=1)
_STEP = flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best, or its step.")


def main():
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from experiments.reports import breakdown
    from vdm.evaluation.evaluate import Estimation
    from vdm.runs import checkpoints, provenance, record
    from vdm.runs.folder import check_writable, require_identity
    from vdm.runs.parts import build_trained, use_compilation_cache

    folder = Path(_WORKDIR.value)
    identity = require_identity(folder)
    config = identity["config"]
    if _BATCH_SIZE.value is not None:
        options = {**config["evaluate"], "batch_size": _BATCH_SIZE.value}
        config = {**config, "evaluate": options}
    use_compilation_cache()
    parts = build_trained({**identity, "config": config})
    parts.dataset.split(_SPLIT.value)
    trained = config["objective"]["num_timesteps"]
    timesteps = trained if _TIMESTEPS.value is None else _TIMESTEPS.value
    estimation = Estimation(timesteps, _REPEATS.value, _RANDOMISATIONS.value, _SEED.value)
    step, params = checkpoints.load_ema(parts, folder, _STEP.value)
    name = record.report_path(folder, _SPLIT.value, step, estimation).stem
    out = Path(_OUT.value) if _OUT.value else folder / "breakdown" / name
    check_writable(out, "--out" if _OUT.value else "--workdir")
    print(provenance.header())
    with StopRequest() as stop:
        found = breakdown.break_down(parts, params, _SPLIT.value, estimation, stop.check)
    facts = record.describe(parts, params, found.evaluation.of_bound(), _SPLIT.value, step)
    print(record.format_report(facts))
    print(f"written to {breakdown.write(out, parts.dataset, _SPLIT.value, found, facts)}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
