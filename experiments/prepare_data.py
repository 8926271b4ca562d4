"""Prepare a data set once: download, decode, verify, and write one memory-mapped array per split.

    python -m experiments.prepare_data --dataset=cifar10
    python -m experiments.prepare_data --dataset=cifar10 --source_dir=~/archives
    python -m experiments.prepare_data --dataset=folder:photos --crop=256 --size=64
    python -m experiments.prepare_data --dataset=tfds:omniglot

Sets that are not on this machine come through TensorFlow Datasets: pip install -e '.[data]'.
Interrupted, it starts again and finishes; when all is prepared, it only says so. Without a clone, the
installed library does the same: python -m vdm.runs.prepare_data.
"""

from collections.abc import Callable

from absl import flags

from experiments.cli import evaluation_flags, launcher
from vdm.runs.prepare_data import DATA_DIR, DATASET, OWN, SHARED

_DEFINE: dict[type, Callable[..., flags.FlagHolder]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
}
_OPTIONS = {
    name: _DEFINE[option.kind](name, None, option.text)
    for name, option in {"dataset": DATASET, "data_dir": DATA_DIR, **SHARED, **OWN}.items()
}
_VERIFY_DATA = evaluation_flags.verify_data()


def main():
    from vdm.runs.prepare_data import prepare

    values = {name: flag.value for name, flag in _OPTIONS.items()}
    print(prepare(values, _VERIFY_DATA.value))


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
