"""Luo's two decompositions of the bound: that they agree, and which varies less.

    python -m experiments.decompositions --workdir=runs/digits --timesteps=100 --trajectories=8

Denoising matching and the consistency form as a joint log-ratio are two estimators of one bound L_T;
the consistency form read as a KL divergence (consistency_kl) is not. Variances are of one image's
estimate in nats^2: from one random step t, and from all T steps of one trajectory. Writes no file.
"""

from absl import flags

from experiments.cli import launcher

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run.", required=True)
_SPLIT = flags.DEFINE_string("split", None, "Which images; as configured if not given.")
_TIMESTEPS = flags.DEFINE_integer("timesteps", 100, "T of the bound.")
_TRAJECTORIES = flags.DEFINE_integer("trajectories", 8, "Independent ones for each image.")
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", 64, "The first so many images of the split.", lower_bound=2
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise.", lower_bound=0, upper_bound=2**32 - 1)
_STEP = flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best, or its step.")


def main():
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from vdm.data.batches import eval_batches
    from vdm.evaluation.analysis.decompositions import evaluate_decompositions
    from vdm.runs import checkpoints, provenance
    from vdm.runs.folder import require_identity
    from vdm.runs.parts import build_trained, use_compilation_cache
    from vdm.runs.progress import Progress, evaluation_progress

    folder = Path(_WORKDIR.value)
    identity = require_identity(folder)
    use_compilation_cache()
    parts = build_trained(identity)
    options = identity["config"]["evaluate"]
    split = _SPLIT.value or options["split"]
    batches = _first(eval_batches(parts.dataset, split, options["batch_size"]), _NUM_IMAGES.value)
    print(provenance.header())
    step, params = checkpoints.load_ema(parts, folder, _STEP.value)
    count = len(batches) * _TRAJECTORIES.value
    with StopRequest() as stop, Progress("trajectories", count, "batches") as bar:
        decompositions = evaluate_decompositions(
            parts.model.as_diffusion("decompositions"),
            params,
            batches,
            parts.mesh,
            _TIMESTEPS.value,
            _TRAJECTORIES.value,
            _SEED.value,
            evaluation_progress(bar, stop.check),
        )
    print(_table(decompositions, parts.dataset.spec.num_dims))
    num_images = decompositions["denoising"].total.shape[1]
    print(
        f"T = {_TIMESTEPS.value}, {_TRAJECTORIES.value} trajectories of {num_images} images of "
        f"{parts.dataset.spec.name}/{split}, seed {_SEED.value}; checkpoint step {step}"
    )


def _first(batches, num_images: int) -> list:
    """The batches that hold the first `num_images`, the others masked."""
    import dataclasses

    import numpy as np

    kept = []
    for batch in batches:
        mask = np.asarray(batch.mask) & (np.asarray(batch.index) < num_images)
        if mask.any():
            kept.append(dataclasses.replace(batch, mask=mask))
    return kept


def _table(decompositions, num_dims: int) -> str:
    """The three totals with their errors and variances, and the differences by trajectory."""
    from vdm.evaluation.statistics.estimate import estimate
    from vdm.runtime.tables import show_table

    columns = ("decomposition", "bits/dim", "Monte Carlo s.e.", "var, one t", "var, all t")
    rows = []
    for name, one in decompositions.items():
        found = estimate(one.total, num_dims)
        variances = (f"{one.variance_one_time:.4g}", f"{one.variance_dense:.4g}")
        rows.append((name, f"{found.mean:.4f}", _error(found, one), *variances))
    for name in ("consistency", "consistency_kl"):
        one, other = decompositions[name], decompositions["denoising"]
        found = estimate(one.total - other.total, num_dims)
        rows.append((f"{name} - denoising", f"{found.mean:+.4f}", _error(found, one), "", ""))
    return show_table(columns, rows)


def _error(found, decomposition) -> str:
    from vdm.evaluation.bounds.table import LEAST_RANDOMISATIONS

    enough = len(decomposition.total) >= LEAST_RANDOMISATIONS
    return f"{found.monte_carlo_error:.4f}" if enough else "not estimated"


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
