"""Published sets: names that mean one thing, and the genuine files where they are at hand."""

import dataclasses
import functools
import gzip
import hashlib
import json
import pickle
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from vdm.data import RECIPES, DataRequest, load, make_recipe, open_content
from vdm.data.base import NotPrepared
from vdm.data.sources import cifar
from vdm.data.sources.published_sets import PUBLISHED, Reader
from vdm.errors import ConfigError, DataError


def gunzipped(path, header):
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)[header:]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_image_for_image(name, shared_dir, tmp_path):
    """Every image and label, at its position in the official file, read here in two lines."""
    folder = shared_dir / "data" / name
    data = load(name, {}, tmp_path, source_dir=str(folder))
    assert data.spec.name == name and data.spec.shape == (28, 28, 1)
    assert data.spec.split_sizes == {"train": 59_000, "validation": 1000, "test": 10_000}
    for splits, stem in ((("train", "validation"), "train"), (("test",), "t10k")):
        images = gunzipped(folder / f"{stem}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
        labels = gunzipped(folder / f"{stem}-labels-idx1-ubyte.gz", 8)
        index = np.concatenate([data.index[split] for split in splits])
        assert sorted(index.tolist()) == list(range(len(images)))
        found = np.concatenate([data.split(split) for split in splits])
        np.testing.assert_array_equal(found, images[index])
        found = np.concatenate([data.labels[split] for split in splits])
        np.testing.assert_array_equal(found, labels[index])
    manifest = json.loads((tmp_path / data.spec.content_hash / "manifest.json").read_text())
    assert manifest["pixel_sha256"] == PUBLISHED[name].pixel_sha256
    assert manifest["source_split_sizes"] == {"train": 60_000, "test": 10_000}
    # From now on it is known by its name alone, and by its hash.
    assert load(name, {}, tmp_path, verify=True).spec == data.spec
    assert open_content(data.spec.content_hash, tmp_path).spec == data.spec


def test_the_pinned_hash_is_that_of_the_official_file(shared_dir):
    """The definition of the pixel hash, once more and without the library."""
    path = shared_dir / "data" / "mnist" / "t10k-images-idx3-ubyte.gz"
    images = gunzipped(path, 16).reshape(10_000, 784)
    header = json.dumps({"num_levels": 256, "shape": [10_000, 28, 28, 1]}).encode()
    digests = sorted(hashlib.sha256(image.tobytes()).digest() for image in images)
    found = hashlib.sha256(header + b"".join(digests)).hexdigest()
    assert PUBLISHED["mnist"].pixel_sha256["test"] == found


def test_one_altered_pixel_is_not_the_published_set(shared_dir, tmp_path):
    folder = shutil.copytree(shared_dir / "data" / "mnist", tmp_path / "mnist")
    folder.chmod(0o755)
    path = folder / "t10k-images-idx3-ubyte.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[5000] ^= 1
    path.chmod(0o644)
    path.write_bytes(gzip.compress(content, 1))
    with pytest.raises(
        DataError, match=r"data 'mnist': the pixels of test have SHA-256 .* altered"
    ):
        load("mnist", {}, tmp_path / "cache", source_dir=str(folder))
    assert not [p for p in (tmp_path / "cache").iterdir() if p.name != "catalogue"]


def test_another_set_under_the_same_file_names(shared_dir, tmp_path):
    with pytest.raises(DataError, match=r"data 'mnist': the pixels of train have SHA-256"):
        load("mnist", {}, tmp_path, source_dir=str(shared_dir / "data" / "fashion_mnist"))


@pytest.fixture(scope="module")
def cifar_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cifar")


def test_cifar10_without_93_images(shared_dir, cifar_cache):
    """Against Pillow and the mask beside the mosaics."""
    folder = shared_dir / "data" / "cifar10"
    data = load("cifar10", {}, cifar_cache, source_dir=str(folder))
    assert data.spec.split_sizes == {"train": 48_927, "validation": 1000, "test": 9980}
    assert "93 of 60000 published images are missing (73 of train, 20 of test)" in data.spec.notes
    assert data.spec.missing == {"train": 73, "test": 20}
    missing = json.loads((folder / "cifar10_missing.json").read_text())
    rest = sorted(set(range(10_000)) - set(missing["test_missing"]))
    assert sorted(data.index["test"].tolist()) == rest
    mosaic = np.asarray(Image.open(folder / "test.webp").convert("RGB"))
    for image, place in list(zip(data.split("test"), data.index["test"], strict=True))[::97]:
        row, column = divmod(int(place), 100)
        tile = mosaic[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        np.testing.assert_array_equal(image, tile)
    manifest = json.loads((cifar_cache / data.spec.content_hash / "manifest.json").read_text())
    assert manifest["missing"] == {
        "train": missing["train_missing"],
        "test": missing["test_missing"],
    }


def test_an_incomplete_set_does_not_answer_to_the_name(shared_dir, cifar_cache):
    folder = str(shared_dir / "data" / "cifar10")
    load("cifar10", {}, cifar_cache, source_dir=folder)
    with pytest.raises(NotPrepared, match=r"data 'cifar10': not prepared in"):
        load("cifar10", {}, cifar_cache)


@pytest.mark.slow
def test_five_bits_of_cifar10(shared_dir, cifar_cache):
    folder = str(shared_dir / "data" / "cifar10")
    eight = load("cifar10", {}, cifar_cache, source_dir=folder)
    five = load("cifar10", {}, cifar_cache, source_dir=folder, bits=5, num_validation=500)
    assert five.spec.num_levels == 32 and "5 of 8 bits per channel" in five.spec.notes
    np.testing.assert_array_equal(five.split("test"), eight.split("test") // 8)
    assert five.spec.split_sizes["validation"] == 500
    # Held-out images of a smaller validation split are among those of a larger one.
    np.testing.assert_array_equal(five.index["validation"], eight.index["validation"][:500])


@pytest.mark.slow
def test_cifar10_by_python_and_binary_batches_is_one_set(shared_dir, tmp_path, monkeypatch):
    """60,000 genuine images (93 of them black) in both published forms."""
    digests = {}
    truth = np.load(shared_dir / "data" / "cifar10" / "labels.npz")
    place = lambda *parts: tmp_path.joinpath(*parts)  # noqa: E731
    place("py").mkdir()
    place("bin").mkdir()
    names = [*(f"train_{n}" for n in range(5)), "test"]
    for number, name in enumerate(names, start=1):
        mosaic = np.asarray(
            Image.open(shared_dir / "data" / "cifar10" / f"{name}.webp").convert("RGB")
        )
        planes = mosaic.reshape(100, 32, 100, 32, 3).transpose(0, 2, 4, 1, 3).reshape(10_000, -1)
        split = "test" if name == "test" else "train"
        labels = (
            truth[f"{split}_labels"][10_000 * (number - 1) :][:10_000]
            if split == "train"
            else truth["test_labels"]
        )
        stem = "test_batch" if split == "test" else f"data_batch_{number}"
        batch = {b"data": planes, b"labels": labels.tolist()}
        place("py", stem).write_bytes(pickle.dumps(batch, 2))
        rows = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
        place("bin", f"{stem}.bin").write_bytes(rows.tobytes())
        for path in (place("py", stem), place("bin", f"{stem}.bin")):
            digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    layouts = [
        dataclasses.replace(
            layout,
            batches={s: {n: digests[n] for n in names} for s, names in layout.batches.items()},
            algorithm="sha256",
        )
        for layout in cifar.CIFAR10
    ]
    reader = Reader(
        "batches",
        functools.partial(cifar.find, formats=layouts),
        functools.partial(cifar.read, formats=layouts),
    )
    facts = dataclasses.replace(PUBLISHED["cifar10"], readers=(reader,))
    monkeypatch.setitem(PUBLISHED, "cifar10", facts)
    by_python = load("cifar10", {}, place("a"), source_dir=str(place("py")))
    by_binary = load("cifar10", {}, place("b"), source_dir=str(place("bin")))
    assert by_python.spec == by_binary.spec
    for split in by_python.splits:
        np.testing.assert_array_equal(by_python.labels[split], by_binary.labels[split])
    assert load("cifar10", {}, place("a")).spec == by_python.spec  # complete, so known by name


@pytest.mark.parametrize("name", ["imagenet32", "imagenet64", "imagenet_32"])
def test_ambiguous_names_are_refused_with_the_explanation(name, tmp_path):
    side = name[-2:]
    with pytest.raises(
        ConfigError, match=rf"downsampled_imagenet_{side} .*imagenet_resized_{side}"
    ):
        load(name, {}, tmp_path)


def test_the_two_imagenets_never_answer_for_one_another():
    requests = [make_recipe(DataRequest(name)).request for name in RECIPES if "imagenet" in name]
    assert len({json.dumps(request) for request in requests}) == 4
    notes = {PUBLISHED[name].note for name in RECIPES if "imagenet" in name}
    assert len(notes) == 2 and "" not in notes


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_published_set_has_a_recipe_and_names_what_it_needs(name, tmp_path):
    options = {"size": 64} if PUBLISHED[name].resized else {}
    with pytest.raises(NotPrepared, match=f"data '{name}': not prepared in {tmp_path}"):
        load(name, options, tmp_path)
    assert make_recipe(DataRequest(name, options)).needs_tfds
    assert list(tmp_path.iterdir()) == []


def test_celeb_a_needs_a_size(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.celeb_a\.size=0: choose"):
        load("celeb_a", {}, tmp_path)
    assert make_recipe(DataRequest("celeb_a", {"size": 64})).name == "celeb_a_64"


def test_a_source_dir_without_the_set(tmp_path):
    with pytest.raises(DataError, match=r"source_dir=/no/where: no such folder"):
        load("cifar10", {}, tmp_path, source_dir="/no/where")
    with pytest.raises(NotPrepared, match=r"holds none of cifar-10-python\.tar\.gz or .*mosaics"):
        load("cifar10", {}, tmp_path, source_dir=str(tmp_path))


def test_another_number_of_images_is_another_set(tmp_path, monkeypatch):
    for stem, num in (("train", 30), ("t10k", 10)):
        for kind, shape in (("images-idx3-ubyte", (num, 2, 2)), ("labels-idx1-ubyte", (num,))):
            header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
            (tmp_path / f"{stem}-{kind}").write_bytes(header + bytes(int(np.prod(shape))))
    facts = dataclasses.replace(PUBLISHED["mnist"], split_sizes={"train": 30, "test": 11})
    monkeypatch.setitem(PUBLISHED, "mnist", facts)
    with pytest.raises(DataError, match="mnist: test has 10 images, but the published set 11"):
        load("mnist", {}, tmp_path / "cache", source_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder:", "data.name='folder:': write folder, or one of folder:PATH"),
        ("mnist:train", "data.name='mnist:train': write mnist, or one of folder:PATH"),
        ("tfds", r"data\.tfds\.builder=''"),
    ],
)
def test_names_with_arguments(name, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load(name, {}, tmp_path)
    assert make_recipe(DataRequest("tfds:omniglot")).name == "tfds:omniglot"
