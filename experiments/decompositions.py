"""Compare Luo's two decompositions of the bound: their values agree, and their variances differ.

    python -m experiments.decompositions --workdir=runs/digits --timesteps=100 --trajectories=8

Denoising matching and the consistency form as a joint log-ratio are two estimators of one bound L_T;
the consistency form read as a KL divergence (consistency_kl) is not (Luo 2022, arXiv:2208.11970).
Variances, in nats^2, are of one image's estimate: from one random step t, and from all T steps of one
trajectory. The table is printed; no file is written.

A trajectory costs --timesteps network evaluations, which all three share: 800 per image by default.
"""

from absl import flags

from experiments.cli import evaluation_flags, launcher

_WORKDIR = evaluation_flags.workdir()
_SPLIT = evaluation_flags.split()
# Both forms estimate L_T for any T, so that a small T shows their variances at a small cost.
_TIMESTEPS = flags.DEFINE_integer("timesteps", 100, "Number of steps T of the bound.")
_TRAJECTORIES = flags.DEFINE_integer(
    "trajectories",
    8,
    "Number of independent trajectories per image, at least 2; 8 give a Monte Carlo error.",
)
_NUM_IMAGES = evaluation_flags.num_images(64)
_SEED = evaluation_flags.seed(0, "the noise")
_STEP = evaluation_flags.step()


def main():
    from pathlib import Path

    from experiments.cli.signals import StopRequest
    from experiments.reports import decompositions
    from experiments.reports.tables import format_table
    from vdm.runs import checkpoints, provenance
    from vdm.runs.folder import require_identity
    from vdm.runs.parts import build_trained, use_compilation_cache

    # The run as it was trained, on the split it was evaluated on unless another is given.
    folder = Path(_WORKDIR.value)
    identity = require_identity(folder)
    use_compilation_cache()
    split = _SPLIT.value or identity["config"]["evaluate"]["split"]
    parts = build_trained(identity, split=split)
    spec = parts.dataset.spec

    print(provenance.header())
    step, params = checkpoints.load_ema(parts, folder, _STEP.value)
    # All forms see the same trajectories, so that their differences vary less than each does.
    sizes = (_NUM_IMAGES.value, _TIMESTEPS.value, _TRAJECTORIES.value, _SEED.value)
    with StopRequest() as stop:
        forms = decompositions.measure(parts, params, split, *sizes, stop.check)

    # In bits/dim, but for the variances: squares of nats of a whole image.
    print(format_table(decompositions.table(forms, spec.num_dims)))
    # The split may hold fewer images than were asked for.
    num_images = forms["denoising"].total.shape[1]
    print(
        f"T = {_TIMESTEPS.value}, {_TRAJECTORIES.value} trajectories of {num_images} images of "
        f"{spec.name}/{split}, seed {_SEED.value}; checkpoint step {step}"
    )


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
