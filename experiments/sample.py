"""Draw samples from a trained model.

    python -m experiments.sample --workdir=runs/digits --num=64 --steps=250

Writes into samples/ of the work folder: a grid as PNG, the integers as .npz, and of a diffusion model
strips of z_t and of the denoiser's estimate of x on the way from noise (left) to image (right).
The data set is not needed, only config.json and a checkpoint.

A sample costs --steps network evaluations. Ancestral sampling draws from the very model whose bound
`evaluate --bound=elbo@T` gives at T = --steps (Kingma et al. 2021, arXiv:2107.00630, sec. 3.3), so
fewer steps are another model. The same seed gives the same samples for any batch size.
"""

from absl import flags

from experiments.cli import evaluation_flags, launcher

_WORKDIR = evaluation_flags.workdir()
_NUM = flags.DEFINE_integer("num", 64, "Number of samples.", lower_bound=1)
_STEPS = flags.DEFINE_integer(
    "steps", 250, "Number of steps from noise to image, a network evaluation each.", lower_bound=1
)
_SAMPLER = flags.DEFINE_string(
    "sampler",
    None,
    "Name of the sampler, such as ancestral (diffusion models) or chain (families with few latents). "
    "Default: the first that serves the model.",
)
_SEED = evaluation_flags.seed(0, "all noise")
_STEP = evaluation_flags.step()
_BATCH_SIZE = evaluation_flags.batch_size(64, "samples")


def main():
    from pathlib import Path

    import vdm.runs
    from experiments.cli.signals import stop_request
    from experiments.sessions import sampling
    from vdm.runs import checkpoints, provenance
    from vdm.runs.folder import check_writable, write_arrays
    from vdm.runs.parts import use_compilation_cache
    from vdm.runtime.devices import check_divisible
    from vdm.runtime.processes import together
    from vdm.samplers import make_sampler, serving
    from vdm.samplers.draw import make_sample_step

    folder = Path(_WORKDIR.value)
    if _SAMPLER.value is not None:
        make_sampler(_SAMPLER.value)  # refuses a name before the run is opened

    # Everything that can be refused is checked before the parameters are read.
    run = together(lambda: vdm.runs.open(folder))
    sampler = serving(run.model, _SAMPLER.value)
    sampling.check_memory(_NUM.value, run.model.shape)
    check_divisible("--batch_size", _BATCH_SIZE.value, run.mesh)
    check_writable(folder / "samples")

    # Averaged parameters, as in evaluations: the bits/dim of a run are those of this model.
    use_compilation_cache()
    print(provenance.header())
    at, params = checkpoints.load_params(run.model, run.mesh, folder, _STEP.value)
    step = make_sample_step(
        run.model, run.mesh, make_sampler(sampler), _STEPS.value, sampling.NUM_FRAMES
    )
    # A signal ends it between batches with nothing written: the same seed draws the same samples again.
    with stop_request() as stop:
        trajectory = sampling.draw_samples(
            step, params, _SEED.value, _NUM.value, _BATCH_SIZE.value, stop.check
        )
    # The name has all that a sample depends on: another --num gives more or fewer of the same ones.
    name = f"step{at}-{sampler}{_STEPS.value}-seed{_SEED.value}"
    num_levels = run.model.num_levels
    paths = sampling.write_pictures(folder / "samples", name, trajectory, num_levels)
    # Integers besides the picture, whose 8 bits would lose codes of more than 256 levels.
    paths.append(folder / "samples" / f"{name}.npz")
    write_arrays(paths[-1], {"images": trajectory.images})
    print(f"{_NUM.value} samples of checkpoint step {at} in {_STEPS.value} steps, written to")
    print("\n".join(f"  {path}" for path in paths))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__, distributed=True)
