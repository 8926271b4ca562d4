"""Measure how fast input pipelines make batches: ours, plain NumPy indexing, and tf.data.

    python -m experiments.benchmarks.data
    python -m experiments.benchmarks.data --tf_data=true    # where the extra "data" is installed

Random images of 32x32x3 in a file, read from the page cache. Prints images per second of processor
time and of wall time, each the best of several rounds, and ratios.
"""

from absl import flags

from experiments.cli import launcher

_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", 50_000, "Number of images in the set, of CIFAR-10's size.", lower_bound=256
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Number of images per batch.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "Number of rounds, of which the fastest counts.", lower_bound=1
)
_TF_DATA = flags.DEFINE_bool(
    "tf_data", False, "Also measure pipelines of tf.data; needs TensorFlow."
)


def main():
    import os
    import tempfile
    import time

    from experiments.benchmarks import data_pipelines
    from vdm.data.base import Dataset
    from vdm.data.cache.prepared import open_prepared, prepare

    # One core for all: tf.data would otherwise be measured with as many as there are.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as cache:
        images = data_pipelines.random_images(_NUM_IMAGES.value)
        splits = {"train": images, "validation": images[:10], "test": images[:10_000]}
        data: Dataset = prepare("random", splits, 256, cache)
        started = time.perf_counter()
        opened = open_prepared(f"{cache}/{data.spec.content_hash}")
        seconds = time.perf_counter() - started
        print(f"opened and checked {len(opened.split('train'))} images in {seconds:.3f} s")
        pipelines = data_pipelines.ours(opened, _BATCH_SIZE.value)
        if _TF_DATA.value:
            pipelines |= data_pipelines.tf_data(images, _BATCH_SIZE.value)
        report(data_pipelines.measure(pipelines, _NUM_IMAGES.value, _ROUNDS.value))


def report(speeds: dict) -> None:
    """Print the speeds, and the ratio of ours to each pipeline of tf.data.

    Args:
      speeds: {pipeline: images per second of (processor time, wall time)}.
    """
    from vdm.runtime.tables import show_table

    columns = ("pipeline", "images/s of CPU time", "images/s of wall time")
    rows = [(name, f"{cpu:,.0f}", f"{wall:,.0f}") for name, (cpu, wall) in speeds.items()]
    print(show_table(columns, rows))
    for name, speed in speeds.items():
        if name.startswith("tf.data"):
            ours = speeds["vdm train_batch"]
            ratios = f"{ours[0] / speed[0]:.1f} (CPU time), {ours[1] / speed[1]:.1f} (wall time)"
            print(f"vdm train_batch / {name}: {ratios}")


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
