"""Evaluate a checkpoint: bits/dim per term over one pass of a split, with errors.

    python -m experiments.evaluate --workdir=runs/digits --split=test --timesteps=1000
    python -m experiments.evaluate --workdir=runs/digits --bound=continuous:repeats=40,iwae@100,ode

One bound is shown term by term, several as one table. Writes evaluations/*.json, and per
image in nats a .npz beside it.
"""

from absl import flags

from experiments.cli import launcher

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run.", required=True)
_SPLIT = flags.DEFINE_string("split", None, "Which images; as configured if not given.")
flags.DEFINE_integer(
    "timesteps",
    None,
    "T of the bounds that take one, 0 = continuous time; bound elbo as trained if not given.",
    lower_bound=0,
)
flags.DEFINE_integer("repeats", None, "Times per image.", lower_bound=1)
_RANDOMISATIONS = flags.DEFINE_integer(
    "randomisations", None, "Independent ones; 2 or more give a Monte Carlo error.", lower_bound=1
)
_SEED = flags.DEFINE_integer(
    "seed", None, "Of times and noise.", lower_bound=0, upper_bound=2**32 - 1
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at once.", lower_bound=1)
_VERIFY_DATA = flags.DEFINE_bool("verify_data", False, "Hash all pixels of the data again.")
_STEP = flags.DEFINE_string("step", "latest", "Which checkpoint: latest, best, or its step.")
_BOUND = flags.DEFINE_string(
    "bound",
    "elbo",
    "Bounds, NAME[@T][:option=value]..., with commas, such as "
    "continuous:repeats=4,iwae@100:num_weights=64: elbo (with T or without), discrete, "
    "dense, consistency, iwae (with T), continuous, ode (without).",
)
# Options of single bounds, also as --bound=NAME:option=value.
flags.DEFINE_string(
    "density", None, "Of the times of bound continuous: uniform in gamma (default), or fitted."
)
flags.DEFINE_integer("iwae_weights", None, "K of bound iwae, a power of two (16).")
flags.DEFINE_string("ode_solver", None, "dopri5 (default), tsit5 or bosh3.")
flags.DEFINE_float("ode_tolerance", None, "Relative and absolute (1e-5).")
flags.DEFINE_integer("ode_max_steps", None, "Of an image's solve (1000).")
flags.DEFINE_string("ode_trace", None, "rademacher (default), gaussian or exact.")
flags.DEFINE_string(
    "ode_dequantisation", None, "variational (default: q(z_0|x)), truncated or uniform."
)
flags.DEFINE_integer("ode_weights", None, "Dequantisations averaged, 2^n (1).")


def main():
    from pathlib import Path

    import jax

    from experiments.cli.signals import stop_request
    from experiments.sessions import bounds
    from vdm.runs import checkpoints, provenance
    from vdm.runs.folder import require_identity
    from vdm.runs.parts import build_trained, use_compilation_cache
    from vdm.runtime.processes import together

    folder = Path(_WORKDIR.value)
    identity = require_identity(folder)
    options = _options(identity["config"]["evaluate"])
    config = {**identity["config"], "evaluate": options}
    use_compilation_cache()
    parts = together(
        lambda: build_trained({**identity, "config": config}, verify_data=_VERIFY_DATA.value)
    )
    parts.dataset.split(options["split"])
    bounds_asked = _bounds(options, config["objective"]["num_timesteps"])
    print(provenance.header())
    step, params = checkpoints.load_ema(parts, folder, _STEP.value)
    count = jax.process_count()
    with stop_request() as stop:
        asked = (bounds_asked, _RANDOMISATIONS.value, stop.check, count)
        print(bounds.run(parts, params, folder, step, *asked))


def _bounds(configured, trained_timesteps: int) -> list:
    """The bounds that --bound names, with the options of the flags; elbo otherwise as configured."""
    from absl.flags import FLAGS

    from experiments.sessions import bounds

    timesteps = configured["num_timesteps"]
    elbo = {
        "num_timesteps": trained_timesteps if timesteps is None else timesteps,
        "repeats": configured["repeats"],
    }
    return bounds.parse(_BOUND.value, {name: FLAGS[name].value for name in bounds.FLAGS}, elbo)


def _options(configured) -> dict:
    """Section "evaluate" of the configuration, with what the flags override."""
    flags_given = {
        "split": _SPLIT.value,
        "randomisations": _RANDOMISATIONS.value,
        "seed": _SEED.value,
        "batch_size": _BATCH_SIZE.value,
    }
    return {**configured, **{n: v for n, v in flags_given.items() if v is not None}}


if __name__ == "__main__":
    launcher.run(main, doc=__doc__, distributed=True)
