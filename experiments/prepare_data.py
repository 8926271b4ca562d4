"""Prepare a data set once: download, decode, verify, and write one memory-mapped array per split.

    python -m experiments.prepare_data --dataset=cifar10
    python -m experiments.prepare_data --dataset=cifar10 --source_dir=~/archives
    python -m experiments.prepare_data --dataset=folder:photos --crop=256 --size=64
    python -m experiments.prepare_data --dataset=tfds:omniglot

Sets that are not on this machine come through TensorFlow Datasets: pip install -e '.[data]'.
Interrupted, it starts again and finishes; when all is prepared, it only says so.
"""

from absl import flags

from experiments.cli import launcher

_DATASET = flags.DEFINE_string("dataset", None, "Which: a name, folder:PATH or tfds:BUILDER.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where prepared data live; $VDM_DATA_DIR or ~/.cache/vdm/data if not given."
)
_SOURCE_DIR = flags.DEFINE_string(
    "source_dir", None, "A folder with the set's archives or files on this machine."
)
_BITS = flags.DEFINE_integer("bits", None, "Bits kept per channel; all if not given.")
_NUM_VALIDATION = flags.DEFINE_integer(
    "num_validation", None, "Training images held out where a set has no validation split."
)
_CROP = flags.DEFINE_integer("crop", None, "Side of the central square that is cut out.")
_SIZE = flags.DEFINE_integer("size", None, "Side that the square image is resized to.")
_FILTER = flags.DEFINE_string("filter", None, "How: box, bilinear, bicubic or lanczos.")
_PATH = flags.DEFINE_string("path", None, "The folder of --dataset=folder.")
_SPLITS = flags.DEFINE_string(
    "splits", None, "Of --dataset=folder: auto, or none to take every folder for a class."
)
_BUILDER = flags.DEFINE_string("builder", None, "The builder of --dataset=tfds.")
_VERIFY_DATA = flags.DEFINE_bool("verify_data", False, "Hash all pixels again.")


def main():
    import json

    from vdm.data.base import cache_root
    from vdm.data.cache.prepared import MANIFEST
    from vdm.errors import ConfigError
    from vdm.runs import dataset

    if not _DATASET.value:
        raise ConfigError(f"--dataset=: no data set given; choose one of {dataset.listed()}")
    section = {"name": _DATASET.value, **_shared(), _DATASET.value.partition(":")[0]: _options()}
    found = dataset.prepare(section, _DATA_DIR.value, verify=_VERIFY_DATA.value)
    spec = found.spec
    folder = cache_root(_DATA_DIR.value) / spec.content_hash
    sizes = ", ".join(f"{name} {size}" for name, size in spec.split_sizes.items())
    print(f"data: {spec.name}, shape {spec.shape}, {spec.num_levels} levels, images: {sizes}")
    print(f"content hash: {spec.content_hash}")
    manifest = json.loads((folder / MANIFEST).read_text())
    for split, digest in manifest.get("pixel_sha256", {}).items():
        print(f"pixels of {split} in canonical order, SHA-256: {digest}")
    if spec.notes:
        print(spec.notes)
    print(f"{'verified' if _VERIFY_DATA.value else 'ready'} in {folder}")


def _shared() -> dict:
    values = {"bits": _BITS, "num_validation": _NUM_VALIDATION, "source_dir": _SOURCE_DIR}
    return {name: flag.value for name, flag in values.items()}


def _options() -> dict:
    values = {"crop": _CROP, "size": _SIZE, "filter": _FILTER, "path": _PATH, "builder": _BUILDER}
    values["splits"] = _SPLITS
    return {name: flag.value for name, flag in values.items() if flag.value is not None}


if __name__ == "__main__":
    launcher.run(main, doc=__doc__)
