"""Prepare a data set from the command line, with the installed library alone.

    python -m vdm.runs.prepare_data --dataset=cifar10 --source_dir=~/archives

`vdm.runs.dataset` starts it in a process of its own for data that only TensorFlow Datasets can read, so
that training never imports TensorFlow. `experiments.prepare_data` is the same as a launcher.
"""

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vdm.errors import ConfigError, Preempted, VdmError
from vdm.runtime.interruption import Interrupted, raised_by_signals


class Option(NamedTuple):
    """One option of the command line.

    Attributes:
      kind: str or int.
      text: its help.
    """

    kind: type
    text: str


SHARED: dict[str, Option] = {
    "bits": Option(int, "Bits kept per channel, 1 to 8 of 8-bit images. Default: all."),
    "num_validation": Option(
        int,
        "Number of training images held out where the set has no validation split. Default: 1000, "
        "at most 5 %.",
    ),
    "source_dir": Option(
        str,
        "Folder with the set's archives or files on this machine. Default: they are downloaded.",
    ),
}
"""Options of every prepared data set."""

OWN: dict[str, Option] = {
    "crop": Option(
        int, "Side in pixels of the central square that is cut out of each image. Default: no crop."
    ),
    "size": Option(int, "Side in pixels that each image is resized to. Default: as it is."),
    "filter": Option(str, "Filter that resizes: box, bilinear, bicubic or lanczos, the default."),
    "path": Option(str, "Folder, tar or zip of --dataset=folder, also written folder:PATH."),
    "splits": Option(
        str,
        "Splits of --dataset=folder: auto reads folders such as train/ and test/, none takes every "
        "folder for a class. Default: auto.",
    ),
    "builder": Option(
        str, "Builder of TensorFlow Datasets, of --dataset=tfds, also written tfds:BUILDER."
    ),
}
"""Options that some data sets have; one that a set does not have is refused."""

DATASET = Option(str, "Data set: a name such as cifar10, folder:PATH or tfds:BUILDER. Required.")
DATA_DIR = Option(
    str, "Folder where prepared data live. Default: $VDM_DATA_DIR, or ~/.cache/vdm/data."
)
VERIFY_DATA = "Compute the SHA-256 of all pixels again and compare it with the recorded one."


def prepare(values: Mapping[str, Any], verify: bool = False) -> str:
    """Prepare a data set where that is needed, and return what it is, as text.

    Args:
      values: {"dataset": name, "data_dir": folder, and any option of SHARED and OWN}; None = not given.
      verify: compute the SHA-256 of all pixels again.

    Raises:
      ConfigError: no or an unknown data set, or an option that it does not have.
      VdmError: see `vdm.data.load`.
    """
    from vdm.data.base import cache_root
    from vdm.data.cache.prepared import MANIFEST
    from vdm.runs import dataset

    name, data_dir = values["dataset"], values.get("data_dir")
    if not name:
        raise ConfigError(f"dataset=: no data set given; choose one of {dataset.listed()}")
    # Section "data" of a configuration has this form, and so finds the data prepared here.
    own = {option: values[option] for option in OWN if values.get(option) is not None}
    shared = {option: values.get(option) for option in SHARED}
    section = {"name": name, **shared, name.partition(":")[0]: own}
    spec = dataset.prepare(section, data_dir, verify=verify).spec

    folder = cache_root(data_dir) / spec.content_hash
    sizes = ", ".join(f"{split} {size}" for split, size in spec.split_sizes.items())
    lines = [
        f"data: {spec.name}, shape {spec.shape}, {spec.num_levels} levels, images: {sizes}",
        f"content hash: {spec.content_hash}",
    ]
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for split, digest in manifest.get("pixel_sha256", {}).items():
        lines.append(f"pixels of {split} in canonical order, SHA-256: {digest}")
    lines += [spec.notes] if spec.notes else []
    return "\n".join([*lines, f"{'verified' if verify else 'ready'} in {folder}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare what the command line names; return the exit code, see `vdm.errors`."""
    values = vars(_parser().parse_args(argv))
    # A folder's name may have letters that the terminal's encoding lacks.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with raised_by_signals():
            print(prepare(values, values.pop("verify_data")))
    except VdmError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as error:
        print(f"error: {error}; nothing is left of it; run it again", file=sys.stderr)
        return Preempted.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    # No abbreviations: a misspelt option is not to be taken for another one.
    parser = argparse.ArgumentParser(
        prog="python -m vdm.runs.prepare_data", description=__doc__, allow_abbrev=False
    )
    options = {"dataset": DATASET, "data_dir": DATA_DIR, **SHARED, **OWN}
    for name, option in options.items():
        text = option.text.replace("%", "%%")  # argparse formats the help
        parser.add_argument(f"--{name}", type=option.kind, help=text)
    parser.add_argument("--verify_data", action="store_true", help=VERIFY_DATA)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


if __name__ == "__main__":
    sys.exit(main())
