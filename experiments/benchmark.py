"""Time training and evaluation: ours under one or several switches, and beside another's.

    python -m experiments.benchmark --config=configs/digits.py
    python -m experiments.benchmark --config=configs/base.py --image_shape=32,32,3 \\
        --config.train.batch_size=4 --grid='denoiser.unet.remat=false,true'
    python -m experiments.benchmark --config=configs/digits.py --other=theirs.py --out=benchmark.json

Everything is timed in turns, one round after another, so that a busy machine disturbs all alike;
medians and half the distance between quartiles are printed. Compile times are those of an empty cache.
"""

from absl import flags
from ml_collections import config_flags

from experiments.cli import launcher

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration, a Python file.")
_GRID = flags.DEFINE_string(
    "grid", "", "Fields and their values, FIELD=A,B;FIELD=C,D: every combination is timed."
)
_OTHER = flags.DEFINE_multi_string(
    "other", [], "A Python file that defines make_step(config, batch), timed in turns with ours."
)
_IMAGE_SHAPE = flags.DEFINE_list(
    "image_shape", [], "Height,width,channels of random images, instead of the data set's."
)
_NUM_LEVELS = flags.DEFINE_integer("num_levels", 256, "Of random images.", lower_bound=2)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each is timed.", lower_bound=1)
_CALLS = flags.DEFINE_integer(
    "calls", None, "Steps timed at once; 1 on a CPU and 10 elsewhere if not given.", lower_bound=1
)
_EVALUATION = flags.DEFINE_bool("evaluation", True, "Time the evaluation too.")
_OUT = flags.DEFINE_string("out", None, "Write everything there as JSON.")


def main():
    import jax

    from experiments.benchmarks import model, table
    from vdm.runs import provenance
    from vdm.runs.folder import write_json

    shape = model.read_shape(_IMAGE_SHAPE.value)
    configs = model.read_grid(_GRID.value, _CONFIG.value)
    print(provenance.header(_CONFIG.value.to_dict()))
    calls = _CALLS.value or (1 if jax.default_backend() == "cpu" else 10)
    spec = model.random_spec(shape, _NUM_LEVELS.value) if shape else None
    timed = model.Timing(_ROUNDS.value, calls, _EVALUATION.value)
    found = model.run(configs, _OTHER.value, spec, timed)
    print(table.format_table(found))
    if _OUT.value:
        path = model.out_path(_OUT.value)
        write_json(path, {**found, "provenance": provenance.provenance()})
        print(f"written to {path}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__, distributed=True)
