"""Cost of minimising the bound's variance in a training step: ratios of FLOPs and of time.

    python -m experiments.benchmarks.shape_cost --config=configs/digits.py:learned

The same step with the shape on the variance and on the bound. FLOPs by XLA's count; time by blocks of
steps that take turns in the order ABBA, so that a machine that slows down slows both.
"""

from absl import flags
from ml_collections import config_flags

from experiments.cli import launcher

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration, a Python file.")
_PAIRS = flags.DEFINE_integer("pairs", 30, "Blocks of each kind.", lower_bound=3)
_STEPS = flags.DEFINE_integer("steps", 10, "Steps in a block.", lower_bound=1)


def main():
    import functools

    from experiments.benchmarks import interleaved
    from vdm.data.batches import train_batch
    from vdm.runs import provenance
    from vdm.runs.parts import build, use_compilation_cache
    from vdm.runtime import devices

    use_compilation_cache()
    config = _CONFIG.value.to_dict()
    steps, states, flops = {}, {}, {}
    for shape in ("elbo", "variance"):
        parts = build({**config, "objective": {**config["objective"], "interior_loss": shape}})
        host = train_batch(parts.dataset, 0, 0, config["train"]["batch_size"])
        batch, states[shape] = devices.place_batch(host, parts.mesh), parts.fresh_state()
        steps[shape] = parts.train_step().lower(states[shape], batch).compile()  # type: ignore[attr-defined]
        flops[shape] = steps[shape].cost_analysis()["flops"]

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
