"""Show where the bits of a run go: per noise level, channel, pixel, class and image.

    python -m experiments.breakdown --workdir=runs/digits

Writes into breakdown/SPLIT-stepN-.../ of the work folder: index.html, which opens from disk, figures as
PNG and PDF, tables as CSV and LaTeX, the maps as .npz, and the record of the evaluation.

One evaluation of the split is cut up in these ways: its cost is --repeats x --randomisations network
evaluations per image, 32 by default. The parts add up: the integral over gamma = -log SNR is the term
denoising matching, the mean of a map its term, and the mean over images or channels the total.
"""

from experiments.cli import evaluation_flags, launcher

_WORKDIR = evaluation_flags.workdir()
_OUT = evaluation_flags.out(within="breakdown/SPLIT-stepN-.../")
_SPLIT = evaluation_flags.split("test")
_TIMESTEPS = evaluation_flags.timesteps()
_REPEATS = evaluation_flags.repeats(4)
_RANDOMISATIONS = evaluation_flags.randomisations(8)
_SEED = evaluation_flags.seed(0, "times and noise")
_STEP = evaluation_flags.step()
_BATCH_SIZE = evaluation_flags.batch_size()


def main():
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from experiments.reports import breakdown
    from vdm.evaluation.evaluate import Estimation
    from vdm.runs import checkpoints, provenance, record
    from vdm.runs.folder import check_writable, require_identity
    from vdm.runs.parts import build_trained, use_compilation_cache

    # The run as it was trained; only the batch size is free, which changes no number.
    folder = Path(_WORKDIR.value)
    identity = require_identity(folder)
    config = evaluation_flags.with_flags(identity["config"], _BATCH_SIZE)
    use_compilation_cache()
    parts = build_trained({**identity, "config": config}, split=_SPLIT.value)

    # T as trained unless given, so that the parts add up to the bound that was trained.
    trained = config["objective"]["num_timesteps"]
    timesteps = trained if _TIMESTEPS.value is None else _TIMESTEPS.value
    estimation = Estimation(timesteps, _REPEATS.value, _RANDOMISATIONS.value, _SEED.value)
    step, params = checkpoints.load_ema(parts, folder, _STEP.value)
    # Beside the records of evaluations, under the same name: the same number stands in both.
    name = record.report_path(folder, _SPLIT.value, step, estimation).stem
    out = Path(_OUT.value) if _OUT.value else folder / "breakdown" / name
    check_writable(out, "--out" if _OUT.value else "--workdir")

    # The record is that of `evaluate` with these settings: the report can be checked against it.
    print(provenance.header())
    with StopRequest() as stop:
        result = breakdown.break_down(parts, params, _SPLIT.value, estimation, stop.check)
    facts = record.describe(parts, params, result.evaluation.of_bound(), _SPLIT.value, step)
    print(record.format_report(facts))
    print(f"written to {breakdown.write(out, parts.dataset, _SPLIT.value, result, facts)}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
