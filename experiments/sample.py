"""Draw samples from a trained model.

    python -m experiments.sample --workdir=runs/digits --num=64 --steps=250

Writes into samples/: a grid, the integers as a .npz, and of a diffusion model strips of z_t and of the
denoiser's guess on the way from noise (left) to image (right).
"""

from absl import flags

from experiments.cli import launcher

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run.", required=True)
_NUM = flags.DEFINE_integer("num", 64, "How many samples.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 250, "Steps from noise to image.", lower_bound=1)
_SAMPLER = flags.DEFINE_string(
    "sampler", None, "Which sampler; the first that serves the model if not given."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of all noise.", lower_bound=0, upper_bound=2**32 - 1)
_STEP = flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best, or its step.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Samples at once.", lower_bound=1)


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
    run = together(lambda: vdm.runs.open(folder))
    sampler = serving(run.model, _SAMPLER.value)
    sampling.check_memory(_NUM.value, run.model.shape)
    check_divisible("--batch_size", _BATCH_SIZE.value, run.mesh)
    check_writable(folder / "samples")
    use_compilation_cache()
    print(provenance.header())
    at, params = checkpoints.load_params(run.model, run.mesh, folder, _STEP.value)
    step = make_sample_step(
        run.model, run.mesh, make_sampler(sampler), _STEPS.value, sampling.NUM_FRAMES
    )
    with stop_request() as stop:
        found = sampling.draw_samples(
            step, params, _SEED.value, _NUM.value, _BATCH_SIZE.value, stop.check
        )
    name = f"step{at}-{sampler}{_STEPS.value}-seed{_SEED.value}"
    levels = run.model.num_levels
    paths = sampling.write_pictures(folder / "samples", name, found, levels)
    paths.append(folder / "samples" / f"{name}.npz")
    write_arrays(paths[-1], {"images": found.images})
    print(f"{_NUM.value} samples of checkpoint step {at} in {_STEPS.value} steps, written to")
    print("\n".join(f"  {path}" for path in paths))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__, distributed=True)
