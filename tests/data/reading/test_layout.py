"""Splits of images by folder and file name, for the layouts that people use (30 and more)."""

import re

import pytest

from vdm.data.reading.layout import read_layout
from vdm.data.reading.split_names import match_splits
from vdm.errors import ConfigError, DataError

POOL = {"train": 20}
"""One pool: its test images are drawn later."""


def images(layout):
    """Names of as many images as `layout` says, by folder; a folder "" is the top."""
    return [
        f"{folder}/{n}.png".lstrip("/") for folder, number in layout.items() for n in range(number)
    ]


def all_of(*folders):
    return dict.fromkeys(folders, 4)


SPLITS = {"train": 4, "validation": 4, "test": 4}
TWO = {"train": 4, "test": 4}
READ = {
    # folders -> (images by split, classes)
    "the plain three": (all_of("train", "validation", "test"), SPLITS, []),
    "val": (all_of("train", "val", "test"), SPLITS, []),
    "valid, other case": (all_of("Train", "VALID", "Test"), SPLITS, []),
    "dev and eval": (all_of("training", "dev", "eval"), SPLITS, []),
    "testing": (all_of("Training", "Testing"), TWO, []),
    "evaluation": (all_of("train", "evaluation"), TWO, []),
    "no test": (all_of("train", "val"), {"train": 4, "validation": 4}, []),
    "train alone": (all_of("train"), {"train": 4}, []),
    "train alone, with classes": (all_of("train/cat", "train/dog"), {"train": 8}, ["cat", "dog"]),
    "classes": (
        all_of("train/cat", "train/dog", "test/cat", "test/dog"),
        {"train": 8, "test": 8},
        ["cat", "dog"],
    ),
    "an enclosing folder": (all_of("set/train", "set/test"), TWO, []),
    "three enclosing folders": (all_of("a/b/c/Train", "a/b/c/Val", "a/b/c/Test"), SPLITS, []),
    "enclosing folders between": (all_of("train/images", "val/images", "test/images"), SPLITS, []),
    "an enclosing folder named after both": (
        all_of("train_test/train", "train_test/test"),
        TWO,
        [],
    ),
    "an enclosing folder of test data": (all_of("test_data/train", "test_data/test"), TWO, []),
    "folders within their own": (
        all_of("train/train/cat", "train/train/dog", "test/test/cat", "test/test/dog"),
        {"train": 8, "test": 8},
        ["cat", "dog"],
    ),
    "one folder within its own": (all_of("train/train", "test"), TWO, []),
    "years": (all_of("train2017", "val2017", "test2017"), SPLITS, []),
    "sizes": (all_of("train_32x32", "valid_32x32"), {"train": 4, "validation": 4}, []),
    "images": (all_of("train_images", "test_images"), TWO, []),
    "images first": (all_of("images-train", "images-test"), TWO, []),
    "sets": (all_of("Training Set", "Test Set"), TWO, []),
    "run together": (all_of("trainset", "testset"), TWO, []),
    "capitals": (all_of("TrainImages", "TESTImages"), TWO, []),
    "numbered": (all_of("01_train", "02_test"), TWO, []),
    "classes of splits": (
        all_of("cat/train", "cat/test", "dog/train", "dog/test"),
        {"train": 8, "test": 8},
        ["cat", "dog"],
    ),
    "images and masks of splits": (
        all_of("set/images/train", "set/images/val", "set/masks/train", "set/masks/val"),
        {"train": 8, "validation": 8},
        ["images", "masks"],
    ),
    "unlabelled beside classes": (all_of("train", "train/cat", "test/cat"), None, ["cat"]),
    "unlabelled left out": (all_of("train", "test", "unlabeled"), TWO, []),
    "unlabelled of a year": (
        all_of("train2017", "val2017", "test2017", "Unlabelled2017"),
        SPLITS,
        [],
    ),
    "extra": (all_of("svhn/train", "svhn/test", "svhn/extra"), TWO, []),
    "extra beside train alone": (all_of("train", "extra"), {"train": 4}, []),
    "unlabelled beside classes of splits": (all_of("cat/train", "cat/test", "extra"), TWO, []),
    "a class called as a split": (
        all_of("train/bus", "train/train", "test/bus", "test/train"),
        {"train": 8, "test": 8},
        ["bus", "train"],
    ),
    "a class that mentions train": (
        all_of("train/bullet_train", "train/cat", "test", "val"),
        {"train": 8, "validation": 4, "test": 4},
        ["bullet_train", "cat"],
    ),
    "a pool": ({"": 20}, POOL, []),
    "a pool in a folder": ({"photos": 20}, POOL, []),
    "a pool of classes": ({"cat": 12, "dog": 8}, POOL, ["cat", "dog"]),
    "a pool of enclosed classes": ({"a/b/cat": 12, "a/b/dog": 8}, POOL, ["cat", "dog"]),
    "a pool of classes within classes": ({"cat/big": 12, "dog": 8}, POOL, ["cat/big", "dog"]),
    "a pool with images of no class": ({"": 5, "cat": 15}, POOL, ["cat"]),
    "a pool whose folder mentions tests": ({"my_test_photos": 20}, POOL, []),
    "words that hold others": ({"latest": 12, "contest": 8}, POOL, ["contest", "latest"]),
    "unlabelled in a pool": ({"cat": 12, "unlabeled": 8}, POOL, ["cat", "unlabeled"]),
}


@pytest.mark.parametrize("kind", READ)
def test_layouts_with_one_reading(kind):
    layout, splits, classes = READ[kind]
    names = images(layout)
    found = read_layout(names, "photos")
    if splits is not None:
        assert {split: len(found.names[split]) for split in found.names} == splits
    assert found.classes == classes
    left_out = sum(found.left_out.values())
    assert len(found.places) + left_out == len(names)
    assert bool(left_out) == any("left out" in note for note in found.notes)
    for name, (split, position) in found.places.items():
        assert found.names[split][position] == name


REFUSED = {
    "a class beside": (
        all_of("train", "test", "cats"),
        r"train/ \(4\); cats/ \(4\) belong to none",
    ),
    "an image beside": ({**all_of("train", "test"), "": 1}, r"no folder \(1\) belong to none"),
    "a class called train": (all_of("bus", "car", "train"), r"splits train/ \(4\)"),
    "a class called dev": (all_of("dev", "prod"), r"splits dev/ \(4\); prod/"),
    "val twice": (all_of("train", "val", "valid", "test"), r"val/ and valid/ are both validation"),
    "two cases": (all_of("Train", "train", "test"), r"Train/ and train/ are both train"),
    "test and eval": (all_of("train", "test", "eval"), r"eval/ and test/ are both test"),
    "two domains": (all_of("trainA", "trainB", "testA", "testB"), r"trainA/ \(4\), trainB/ \(4\)"),
    "trainval": (all_of("trainval", "test"), r"test/ \(4\), trainval/ \(4\)"),
    "classes with a suffix": (all_of("cats_train", "cats_test", "dogs_train"), r"cats_test/ \(4\)"),
    "one class with a suffix": (all_of("cats", "dogs", "cats-test"), r"cats-test/ \(4\); cats/"),
    "background and evaluation": (all_of("images_background", "images_evaluation"), "belong to no"),
    "test alone": (all_of("test"), r"all 4 images are test, being in test/"),
    "test alone, with classes": (all_of("Test_Images/a", "Test_Images/b"), r"8 images are test"),
    "no training images": (all_of("val", "test"), r"nothing to train on"),
    "splits within train": (all_of("train/train", "train/test"), r"being in train/, or splits"),
    "splits within splits": (
        all_of("training/train", "training/val", "testing"),
        r"splits within splits \(train, val\)",
    ),
    "test in train": (
        all_of("train/cat", "train/test", "test/cat"),
        r"splits within splits \(test",
    ),
    "test in train, flat": (all_of("train", "train/test", "test"), r"within splits \(test\)"),
    "test in train alone": (all_of("train", "train/test"), r"splits test/ \(4\); no folder"),
    "one class without splits": (all_of("cat/train", "cat/test", "dog"), r"cat/train/ .*; dog/"),
    "splits at two depths": (
        all_of("cat/train", "dog/big/train", "dog/big/test"),
        r"dog/big/test/",
    ),
    "splits of one part": (all_of("part1/train", "part1/test", "part2/x"), r"part2/ \(4\) belong"),
    "an extra that mentions train": (all_of("train", "val", "train_extra"), r"train_extra/ \(4\)"),
    "splits beside an archive's twin": (all_of("train", "test", "set/train"), r"set/train/ \(4\)"),
    "deep in a pool": (all_of("a/b/cat", "a/c/val"), r"splits c/val/ \(4\); b/"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_layouts_with_two_readings_are_refused_with_both(kind):
    layout, message = REFUSED[kind]
    names = images(layout)
    with pytest.raises(DataError, match=rf"^photos: two readings .*\(1\) .*{message}") as error:
        read_layout(names, "photos")
    pool = rf"\(2\) one pool of {len(names)} images.*set data\.folder\.splits=none$"
    assert re.search(pool, str(error.value)) and "\n" not in str(error.value)
    assert read_layout(names, "photos", "none").is_pool


FILES = {
    "beginnings": (["train_%d", "test_%d"], True),
    "ends": (["img-%d-Train", "img-%d-VAL"], True),
    "some": (["photo%d", "photo%d", "photo%d", "test%d"], True),
    "names from Windows": (["train\\cat\\%d", "test\\cat\\%d"], True),
    "train alone": (["train_%d"], False),
    "all are tests": (["test_%d"], False),
    "within words": (["latest%d", "contest%d", "protest%d"], False),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("folder", ["", "cat/", "train/"])
def test_files_that_are_named_after_splits(kind, folder):
    patterns, refused = FILES[kind]
    names = [f"{folder}{pattern % n}.png" for pattern in patterns for n in range(6)]
    if not refused:
        assert read_layout(names, "photos").is_pool
        return
    with pytest.raises(DataError, match=r"\(1\) \d+ files are named as validation or test.*\(2\)"):
        read_layout(names, "photos")


def test_one_file_that_is_called_test_is_a_file():
    assert read_layout([*images({"": 300}), "test.png", "my test.png"], "photos").is_pool


def test_labels_and_positions_within_splits():
    names = ["b/train/1.png", "a/train/2.png", "a/test/3.png", "b/test/0.png", "b/test/1.png"]
    found = read_layout(names, "photos")
    assert found.names["train"] == ["a/train/2.png", "b/train/1.png"]
    assert found.labels("train").tolist() == [0, 1]
    assert found.labels("test").tolist() == [0, 1, 1]
    loose = read_layout(["train/a/1.png", "train/2.png", "test/a/1.png"], "photos")
    assert loose.labels("train").tolist() == [-1, 0]


def test_an_unknown_reading_lists_the_choices():
    with pytest.raises(ConfigError, match=r"data\.folder\.splits='no'.*choose one of auto, none"):
        read_layout(["a.png"], "photos", "no")


def test_the_splits_of_a_publisher():
    named, others = match_splits(["train", "test", "unlabelled"], "set")
    assert named == {"train": "train", "test": "test"} and others == ["unlabelled"]
    named, others = match_splits(["Training", "val", "test2015", "test"], "set")
    assert named == {"train": "Training", "validation": "val", "test": "test"}
    assert others == ["test2015"]
    for names in (["train", "val", "dev"], ["test"], []):
        with pytest.raises(DataError, match=r"^set: "):
            match_splits(names, "set")
