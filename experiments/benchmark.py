"""Time training and evaluation: ours under one or several switches, and beside another's.

    python -m experiments.benchmark --config=configs/digits.py
    python -m experiments.benchmark --config=configs/base.py --image_shape=32,32,3 \\
        --config.train.batch_size=4 --grid='denoiser.unet.remat=false,true'
    python -m experiments.benchmark --config=configs/digits.py --other=theirs.py --out=benchmark.json

Everything is timed in turns, one round after another, so that a busy machine disturbs all alike;
medians and half the distance between quartiles are printed. Compile times are those of an empty cache.
No trained run is needed. The data set is read (not with --image_shape), and --out alone is written.
"""

from absl import flags
from ml_collections import config_flags

from experiments.cli import launcher

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration that is timed, a Python file with get_config(). Required."
)
_GRID = flags.DEFINE_string(
    "grid",
    "",
    "Fields and their values, FIELD=A,B;FIELD=C,D: every combination is timed. Default: none, the "
    "configuration alone.",
)
_OTHER = flags.DEFINE_multi_string(
    "other",
    [],
    "Python file that defines make_step(config, batch), another implementation of the training step, "
    "timed in turns with ours; may be given several times. Default: none.",
)
# Time does not depend on what the images show: random ones spare the download of a large set.
_IMAGE_SHAPE = flags.DEFINE_list(
    "image_shape",
    [],
    "HEIGHT,WIDTH,CHANNELS of random images that take the place of the data set's. Default: the data "
    "set's images.",
)
_NUM_LEVELS = flags.DEFINE_integer(
    "num_levels", 256, "Number of integer codes per channel of the random images.", lower_bound=2
)
# Five rounds give a median and quartiles; on a busy machine more are needed.
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Number of rounds; each times all once.", lower_bound=1)
_CALLS = flags.DEFINE_integer(
    "calls",
    None,
    "Number of steps in one timing. Default: 1 on a CPU, 10 on accelerators.",
    lower_bound=1,
)
_EVALUATION = flags.DEFINE_bool("evaluation", True, "Time evaluation as well as training.")
_OUT = flags.DEFINE_string("out", None, "JSON file with every number. Default: printed only.")


def main():
    import jax

    from experiments.benchmarks import model, table
    from vdm.runs import provenance
    from vdm.runs.folder import check_writable, write_json

    path = model.out_path(_OUT.value) if _OUT.value else None
    if path:
        check_writable(path.absolute().parent, "--out")  # before minutes of timing
    # Mistakes in flags too are told before anything is compiled.
    shape = model.read_shape(_IMAGE_SHAPE.value)
    configs = model.read_grid(_GRID.value, _CONFIG.value)
    print(provenance.header(_CONFIG.value.to_dict()))

    # On an accelerator a step is short beside the clock's and the host's own time.
    calls = _CALLS.value or (1 if jax.default_backend() == "cpu" else 10)
    # One specification for all rows: images of another size would take another time.
    spec = model.random_spec(shape, _NUM_LEVELS.value) if shape else None
    timed = model.Timing(_ROUNDS.value, calls, _EVALUATION.value)
    timings = model.run(configs, _OTHER.value, spec, timed)
    # The table first: a file that cannot be written must not cost the timings.
    print(table.format_table(timings))
    if path:
        write_json(path, {**timings, "provenance": provenance.provenance()})
        print(f"written to {path}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__, distributed=True)
