"""Cost of minimising the bound's variance in a training step: ratios of FLOPs and of time.

    python -m experiments.benchmarks.shape_cost --config=configs/digits.py:learned

The same training step with the schedule's interior minimising the bound's variance, and the bound
itself. FLOPs are XLA's count; times are of blocks of steps in the order ABBA, so that a machine that
slows down slows both.
"""

from absl import flags
from ml_collections import config_flags

from experiments.cli import launcher

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration that is timed, a Python file with get_config(). Required."
)
_PAIRS = flags.DEFINE_integer(
    "pairs", 30, "Number of pairs of timed blocks, one of each kind; at least 3.", lower_bound=3
)
_STEPS = flags.DEFINE_integer("steps", 10, "Number of training steps in a block.", lower_bound=1)


def main():
    import functools

    from experiments.benchmarks import interleaved
    from vdm.data.batches import train_batch
    from vdm.runs import provenance
    from vdm.runs.parts import build, use_compilation_cache
    from vdm.runtime import devices

    use_compilation_cache()
    config = _CONFIG.value.to_dict()
    # Compiled ahead of time: the timed blocks must not compile, and the count of FLOPs needs the
    # program.
    steps, states, flops = {}, {}, {}
    for shape in ("elbo", "variance"):
        parts = build({**config, "objective": {**config["objective"], "interior_loss": shape}})
        host = train_batch(parts.dataset, 0, 0, config["train"]["batch_size"])
        batch, states[shape] = devices.place_batch(host, parts.mesh), parts.fresh_state()
        steps[shape] = parts.train_step().lower(states[shape], batch).compile()  # type: ignore[attr-defined]
        flops[shape] = steps[shape].cost_analysis()["flops"]

    # Each step takes the state of the one before it, whose buffers are donated.
    def block(shape: str):
        for _ in range(_STEPS.value):
            states[shape], metrics = steps[shape](states[shape], batch)
        return metrics

    calls = {shape: functools.partial(block, shape) for shape in steps}
    seconds = interleaved.time_in_turns(calls, _PAIRS.value)
    ratio, (low, high) = interleaved.ratio(seconds["variance"], seconds["elbo"])
    print(provenance.header())
    print(f"FLOPs per step, variance : bound = {flops['variance'] / flops['elbo']:.4f}")
    print(
        f"time per step, variance : bound = {ratio:.4f}, 95 % interval "
        f"[{low:.4f}, {high:.4f}] from {_PAIRS.value} pairs of {_STEPS.value} steps"
    )


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
