"""Evaluate a checkpoint: bits/dim per term over one pass of a split, with standard errors.

    python -m experiments.evaluate --workdir=runs/digits --split=test --timesteps=1000
    python -m experiments.evaluate --workdir=runs/digits --bound=continuous:repeats=40,iwae@100,ode

One bound is shown term by term, several as one table. Each is written to evaluations/*.json of the
work folder, with the values of every image, in nats, in a .npz beside it. The averaged parameters of
one checkpoint are read. A bound costs --repeats x --randomisations network evaluations per image, T x
--randomisations where it visits every step; the number is printed before each starts. The Monte Carlo
error is for exactly these images, the standard error over images for the population they are from.
"""

from absl import flags

from experiments.cli import evaluation_flags, launcher

_WORKDIR = evaluation_flags.workdir()
_SPLIT = evaluation_flags.split()
_BOUND = flags.DEFINE_string(
    "bound",
    "elbo",
    "Bounds to evaluate, separated by commas, each NAME[@T][:option=value]..., such as "
    "continuous:repeats=4,iwae@100:num_weights=64. T is the number of steps; bounds elbo (which also "
    "does without), discrete, dense, consistency and iwae take one, continuous and ode do not. "
    "docs/guide/evaluation.md lists the options of each.",
)
_TIMESTEPS = evaluation_flags.timesteps(
    "Number of steps T of every bound that takes one and names none; 0 = continuous time, for bound "
    "elbo. Default: as trained for bound elbo, 100 or 1000 by bound for the others."
)
_REPEATS = evaluation_flags.repeats(otherwise=" Default: as configured for bound elbo, else 24.")
_RANDOMISATIONS = evaluation_flags.randomisations(
    otherwise=" Default: as configured for bound elbo, else by bound, 1 for the costly ones."
)
_SEED = evaluation_flags.seed(None, "times and noise")
_STEP = evaluation_flags.step()
_BATCH_SIZE = evaluation_flags.batch_size()
_VERIFY_DATA = evaluation_flags.verify_data()
# Options of bounds had flags of their own; these say how they are written now.
evaluation_flags.former_options()


def main():
    from pathlib import Path

    import jax

    from experiments.cli.signals import stop_request
    from experiments.sessions import bounds
    from vdm.runs import checkpoints, provenance
    from vdm.runs.folder import require_identity
    from vdm.runs.parts import build_trained, use_compilation_cache
    from vdm.runtime.processes import together

    # As the run was trained, but for the flags given here, which leave the model as it is.
    folder = Path(_WORKDIR.value)
    identity = require_identity(folder)
    config = evaluation_flags.with_flags(
        identity["config"], _SPLIT, _RANDOMISATIONS, _SEED, _BATCH_SIZE
    )
    given = {"timesteps": _TIMESTEPS.value, "repeats": _REPEATS.value}
    # Before the data are opened, which takes longer, so that a mistake in --bound is reported at once.
    asked = bounds.parse(evaluation_flags.with_former_options(_BOUND.value), given, config)

    # A split that was never prepared, or data that changed since training, are refused here: bits/dim
    # of other images would not be those of this run.
    use_compilation_cache()
    identity = {**identity, "config": config}
    split = config["evaluate"]["split"]
    parts = together(lambda: build_trained(identity, verify_data=_VERIFY_DATA.value, split=split))

    # The averaged parameters of one step, whose number is part of every record's name: evaluations of
    # several checkpoints stand side by side.
    print(provenance.header())
    step, params = checkpoints.load_ema(parts, folder, _STEP.value)
    # Once JAX has joined the other processes, all of which evaluate a part of every batch.
    count = jax.process_count()
    # A signal ends it between batches; bounds that are done are printed and written by then.
    with stop_request() as stop:
        bounds.run(parts, params, folder, step, asked, _RANDOMISATIONS.value, stop.check, count)


if __name__ == "__main__":
    launcher.run(main, doc=__doc__, distributed=True)
