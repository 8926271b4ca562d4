"""The genuine path through TensorFlow Datasets; runs where the extra "data" is installed.

`.ci/nightly` gives it an environment of its own. shared/tools/seed_fashion_mnist.py puts the upstream
archives of Fashion-MNIST where TFDS would have downloaded them to, so that nothing is downloaded.
"""

import gzip
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_datasets") is None,
        reason="needs the extra data: pip install -e '.[data]'",
    ),
]


@pytest.fixture(scope="module")
def cache(run_python, shared_dir, tmp_path_factory) -> Path:
    """A cache with the upstream archives, as TFDS would have downloaded them."""
    folder = tmp_path_factory.mktemp("cache")
    tool = shared_dir / "tools" / "seed_fashion_mnist.py"
    source = shared_dir / "data" / "fashion_mnist"
    run_python([str(tool), str(source), str(folder / "tfds")], devices=1)
    return folder


@pytest.fixture(scope="module")
def prepared(run_python, cache):
    """The finished process of `prepare_data`; TFDS shuffles and writes array_record."""
    words = ["-m", "vdm.runs.prepare_data", "--dataset=fashion_mnist", f"--data_dir={cache}"]
    return run_python(words, devices=1, timeout=280)


@pytest.fixture
def manifest(prepared, cache):
    line = next(s for s in prepared.stdout.splitlines() if s.startswith("content hash: "))
    content = line.removeprefix("content hash: ")
    return json.loads((cache / content / "manifest.json").read_text())


def test_the_stock_builder_gives_the_idx_files_image_for_image(prepared, cache, shared_dir):
    """Every image of the official files once, with its label, and in the same split."""
    from vdm.data import load

    data = load("fashion_mnist", {}, cache, verify=True)
    source = shared_dir / "data" / "fashion_mnist"
    for splits, stem in ((("train", "validation"), "train"), (("test",), "t10k")):
        read = lambda kind: gzip.decompress((source / f"{stem}-{kind}-ubyte.gz").read_bytes())  # noqa: B023, E731
        images = np.frombuffer(read("images-idx3"), np.uint8, offset=16).reshape(-1, 784)
        labels = np.frombuffer(read("labels-idx1"), np.uint8, offset=8)
        expected = sorted((i.tobytes(), int(n)) for i, n in zip(images, labels, strict=True))
        found = [
            (image.tobytes(), int(label))
            for split in splits
            for image, label in zip(data.split(split), data.labels[split], strict=True)
        ]
        assert sorted(found) == expected


def test_it_is_the_same_array_as_from_the_idx_files(prepared, cache, shared_dir, tmp_path):
    from vdm.data import load

    source = str(shared_dir / "data" / "fashion_mnist")
    by_files = load("fashion_mnist", {}, tmp_path, source_dir=source)
    by_tfds = load("fashion_mnist", {}, cache)
    assert by_tfds.spec == by_files.spec
    for split in by_files.splits:
        np.testing.assert_array_equal(by_tfds.split(split), by_files.split(split))
        np.testing.assert_array_equal(by_tfds.labels[split], by_files.labels[split])


def test_the_manifest_has_what_identifies_the_set(manifest):
    from vdm.data.sources.published_sets import PUBLISHED

    assert manifest["source"]["builder"] == "fashion_mnist/3.0.1"
    assert manifest["source"]["tfds_version"].startswith("4.")
    archives = manifest["source"]["archives_sha256"]
    digest = "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    assert archives["train-images-idx3-ubyte.gz"] == digest and len(archives) == 4
    assert manifest["source_split_sizes"] == {"train": 60_000, "test": 10_000}
    assert manifest["pixel_sha256"] == PUBLISHED["fashion_mnist"].pixel_sha256


def test_a_damaged_archive_is_refused(run_python, cache, prepared, tmp_path):
    shutil.copytree(cache / "tfds" / "downloads", tmp_path / "tfds" / "downloads")
    path = next((tmp_path / "tfds").rglob("*train-images*.gz"))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    words = ["-m", "experiments.prepare_data", "--dataset=fashion_mnist", f"--data_dir={tmp_path}"]
    process = run_python(words, devices=1, timeout=200, check=False)
    assert process.returncode == 3, process.stderr
    lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and f"{path}: wrong checksum: sha256" in lines[0], process.stderr
    assert not [p for p in tmp_path.iterdir() if p.name not in ("tfds", "catalogue")]
    assert not list((tmp_path / "catalogue").glob("*/record.json"))


def test_an_unknown_builder_is_one_line(run_python, tmp_path):
    words = ["-m", "experiments.prepare_data", "--dataset=tfds:no_such_set"]
    process = run_python([*words, f"--data_dir={tmp_path}"], devices=1, check=False)
    assert process.returncode == 3 and "tfds:no_such_set: no such builder" in process.stderr


SHRUNK = {
    "denoiser.name": "mlp",
    "denoiser.mlp.width": 8,
    "denoiser.mlp.num_blocks": 1,
    "train.num_steps": 2,
    "train.batch_size": 8,
    "train.num_samples": 0,
    "evaluate.split": "validation",
    "evaluate.batch_size": 500,
    "evaluate.randomisations": 1,
}

TRACED = """
import runpy, sys
sys.argv = {words!r}
try:
    runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
finally:
    names = ("tensorflow", "tensorflow_datasets")
    print("imported:", [name for name in names if name in sys.modules])
"""


@pytest.fixture
def archives(cache, tmp_path) -> Path:
    """The genuine upstream archives by their own names, as a user would have fetched them."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for info in (cache / "tfds" / "downloads").rglob("*.INFO"):
        name = json.loads(info.read_text())["original_fname"]
        shutil.copy(info.with_name(info.name.removesuffix(".INFO")), folder / name)
    assert len(list(folder.iterdir())) == 4
    return folder


def test_training_prepares_by_itself_from_local_archives_and_imports_neither(
    run_python, archives, tmp_path
):
    """By the name of a builder, so that TFDS reads the archives, in a process of its own."""
    fields = {**SHRUNK, "data.cache_dir": tmp_path, "data.source_dir": archives}
    fields["data.name"] = "tfds:fashion_mnist"
    words = ["train", "--config=configs/mnist.py:fashion", f"--workdir={tmp_path / 'run'}"]
    words += [f"--config.{name}={value}" for name, value in fields.items()]
    process = run_python(TRACED.format(words=words), devices=1, timeout=280)
    assert "preparing data 'tfds:fashion_mnist' first: python -m vdm.runs." in process.stdout
    assert process.stdout.splitlines()[-1] == "imported: []"
    assert "1000 images of tfds:fashion_mnist/validation" in process.stdout
    assert not (tmp_path / "tfds" / "downloads" / "fashion_mnist").exists()  # none fetched
