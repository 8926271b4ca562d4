"""Folders, tars and zips of images."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from vdm.data import load
from vdm.errors import ConfigError, DataError

NUM = 24


def picture(number, shape=(4, 4, 3)) -> np.ndarray:
    image = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    return image


def png(image) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "PNG")
    return file.getvalue()


def write(folder, names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture(number)))
    return folder


def names(num=NUM, prefix=""):
    return [f"{prefix}{number:03d}.png" for number in range(num)]


def as_rows(*arrays):
    return sorted(image.tobytes() for array in arrays for image in array)


def test_a_pool_is_split_and_every_image_is_there_once(tmp_path):
    write(tmp_path / "photos", names())
    data = load(f"folder:{tmp_path / 'photos'}", {}, tmp_path / "cache")
    assert data.spec.name == "folder:photos" and data.spec.shape == (4, 4, 3)
    assert data.spec.split_sizes == {"train": 22, "validation": 1, "test": 1}
    assert as_rows(*data.splits.values()) == as_rows([picture(n) for n in range(NUM)])
    assert "test is 1 of 24 images" in data.spec.notes
    for split, images in data.splits.items():
        for image, position in zip(images, data.index[split], strict=True):
            np.testing.assert_array_equal(image, picture(position))


def test_folders_of_splits_and_classes(tmp_path):
    found = [
        f"{s}/{c}/{n:02d}.png" for s in ("train", "test") for c in ("cat", "dog") for n in range(12)
    ]
    write(tmp_path / "p", found)
    data = load("folder", {"path": str(tmp_path / "p")}, tmp_path / "cache")
    assert data.spec.split_sizes == {"train": 23, "validation": 1, "test": 24}
    assert as_rows(data.split("test")) == as_rows([picture(n) for n in range(24, 48)])
    for image, label in zip(data.split("test"), data.labels["test"], strict=True):
        number = next(n for n in range(48) if np.array_equal(picture(n), image))
        assert label == (number % 24 >= 12)  # the names in order: cat 0, dog 1


def test_subfolders_of_a_pool_are_classes(tmp_path):
    write(tmp_path / "p", [*names(10, "b/"), *names(10, "a/"), *names(4)])
    data = load("folder", {"path": str(tmp_path / "p")}, tmp_path / "cache")
    found = np.concatenate(list(data.labels.values()))
    assert sorted(found.tolist()) == [-1] * 4 + [0] * 10 + [1] * 10


def test_a_validation_folder_is_taken(tmp_path):
    found = [*names(12, "train/"), *names(12, "validation/"), *names(12, "test/")]
    write(tmp_path / "p", found)
    data = load("folder", {"path": str(tmp_path / "p")}, tmp_path / "cache")
    assert set(data.spec.split_sizes.values()) == {12} and data.spec.notes == ""
    with pytest.raises(ConfigError, match=r"num_validation=3: .* has a validation split"):
        load("folder", {"path": str(tmp_path / "p")}, tmp_path / "cache", num_validation=3)


SPLIT_FOLDERS = ("set/Train", "set/val", "set/TEST", "set/unlabeled")


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("slash", ["/", "\\"])
def test_splits_are_found_wherever_they_lie(tmp_path, kind, slash):
    """And images of no split stay out, with a note."""
    found = [f"{folder}/{n}.png" for folder in SPLIT_FOLDERS for n in range(6)]
    path = tmp_path / f"p.{kind}"
    if kind == "folder":
        write(path, found)
    elif kind == "tar":
        with tarfile.open(path, "w") as tar:
            for number, name in enumerate(found):
                info, content = tarfile.TarInfo(name.replace("/", slash)), png(picture(number))
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"set{slash}Train{slash}", b"")
            for number, name in enumerate(found):
                archive.writestr(name.replace("/", slash), png(picture(number)))
    data = load(f"folder:{path}", {}, tmp_path / "cache")
    for number, split in enumerate(("train", "validation", "test")):
        expected = [picture(n) for n in range(6 * number, 6 * number + 6)]
        assert as_rows(data.split(split)) == as_rows(expected)
    assert data.labels == {} and "left out: 6 in unlabeled/" in data.spec.notes


def test_a_refused_set_is_a_pool_by_wish_and_kept_apart(tmp_path):
    folder = write(tmp_path / "p", [*names(6, "train/"), *names(6, "test/")])
    splits = load(f"folder:{folder}", {}, tmp_path / "cache")
    pool = load(f"folder:{folder}", {"splits": "none"}, tmp_path / "cache")
    assert splits.spec.split_sizes == {"train": 5, "validation": 1, "test": 6}
    assert pool.spec.split_sizes == {"train": 10, "validation": 1, "test": 1}
    write(folder, names(6, "cats/"))
    with pytest.raises(DataError, match=rf"^{folder}: two readings .*cats/ \(6\)"):
        load(f"folder:{folder}", {}, tmp_path / "cache")
    pool = load(f"folder:{folder}", {"splits": "none"}, tmp_path / "cache")
    assert set(np.concatenate(list(pool.labels.values()))) == {0, 1, 2}
    with pytest.raises(ConfigError, match=r"data\.folder\.splits='all'"):
        load(f"folder:{folder}", {"splits": "all"}, tmp_path / "cache")


def test_training_images_stand_in_for_a_test_folder_that_is_not_there(tmp_path):
    folder = write(tmp_path / "p", [*names(40, "train/"), *names(6, "val/")])
    data = load(f"folder:{folder}", {}, tmp_path / "cache")
    assert data.spec.split_sizes == {"train": 38, "validation": 6, "test": 2}
    assert "no folder holds test images" in data.spec.notes


def test_archives_give_what_the_folder_gives(tmp_path):
    write(tmp_path / "p", names(NUM, "x/"))
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as tar:
        for path in sorted((tmp_path / "p").rglob("*.png"), reverse=True):
            tar.add(path, str(path.relative_to(tmp_path / "p")))
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in (tmp_path / "p").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path / "p"))
    found = [load(f"folder:{tmp_path / n}", {}, tmp_path / "c") for n in ("p", "p.tar.gz", "p.zip")]
    assert len({data.spec.content_hash for data in found}) == 1
    for data in found[1:]:
        for split in ("train", "validation", "test"):
            np.testing.assert_array_equal(data.index[split], found[0].index[split])


def test_an_archive_that_leaves_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("../a.png", png(picture(0)))
    with pytest.raises(DataError, match=r"p\.zip: member '\.\./a\.png' leaves its folder"):
        load(f"folder:{tmp_path / 'p.zip'}", {}, tmp_path / "cache")


def test_preparing_happens_once_and_again_when_a_file_changes(tmp_path):
    folder = write(tmp_path / "p", names())
    first = load(f"folder:{folder}", {}, tmp_path / "cache")
    os.rename(folder, tmp_path / "moved")
    with pytest.raises(DataError, match=r"p: no such folder or archive; give folder\.path"):
        load(f"folder:{folder}", {}, tmp_path / "cache")
    os.rename(tmp_path / "moved", folder)
    told = []
    again = load(f"folder:{folder}", {}, tmp_path / "cache", progress=lambda *a: told.append(a))
    assert again.spec == first.spec and told == []
    (folder / "000.png").write_bytes(png(picture(99)))
    other = load(f"folder:{folder}", {}, tmp_path / "cache", progress=lambda *a: told.append(a))
    assert other.spec.content_hash != first.spec.content_hash and told


def test_grey_images_of_16_bits(tmp_path):
    (tmp_path / "p").mkdir()
    for number in range(20):
        deep = picture(number, (3, 5, 1)).astype(np.uint16) * 250
        (tmp_path / "p" / f"{number}.png").write_bytes(png(deep))
    data = load(f"folder:{tmp_path / 'p'}", {}, tmp_path / "cache")
    assert data.spec.num_levels == 65_536 and data.spec.shape == (3, 5, 1)
    assert data.split("train").dtype == np.uint16
    fewer = load(f"folder:{tmp_path / 'p'}", {}, tmp_path / "cache", bits=5)
    assert fewer.spec.num_levels == 32 and "5 of 16 bits" in fewer.spec.notes
    for split in data.splits:
        np.testing.assert_array_equal(fewer.split(split), data.split(split) // 2**11)


def test_loss_and_other_files_are_noted(tmp_path):
    folder = write(tmp_path / "p", names(20))
    Image.fromarray(picture(50)).save(folder / "z.jpg")
    (folder / "README.txt").write_text("hello")
    (folder / ".hidden.png").write_text("no image")
    data = load(f"folder:{folder}", {}, tmp_path / "cache")
    assert "1 of 21 files were compressed with loss" in data.spec.notes
    assert "1 files that are no images were passed over" in data.spec.notes


def test_resizing_is_recorded(tmp_path):
    folder = write(tmp_path / "p", names(20))
    options = {"crop": 3, "size": 2, "filter": "box"}
    data = load(f"folder:{folder}", options, tmp_path / "cache")
    assert data.spec.shape == (2, 2, 3)
    assert "cropped to the central 3 x 3, resized to 2 x 2 (box, Pillow)" in data.spec.notes


def spoil(folder, kind):
    """Damages one file in the middle; returns the pattern of the message."""
    path = folder / "012.png"
    if kind == "another size":
        path.write_bytes(png(picture(0, (5, 4, 3))))
        return r"012\.png: has shape \(5, 4, 3\), but 000\.png \(4, 4, 3\).*crop=N"
    if kind == "another mode":
        path.write_bytes(png(picture(0, (4, 4, 1))))
        return r"012\.png: has shape \(4, 4, 1\), but 000\.png"
    if kind == "cut":
        os.truncate(path, 50)
        return r"012\.png: .*(damaged|no image)"
    if kind == "a palette":
        Image.fromarray(picture(0)).convert("P").save(path)
        return r"012\.png: has a palette"
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["another size", "another mode", "cut", "a palette"])
def test_a_bad_file_in_the_middle_is_named_and_nothing_is_left(tmp_path, kind):
    folder = write(tmp_path / "p", names())
    message = spoil(folder, kind)
    with pytest.raises(DataError, match=rf"{folder}/{message}") as error:
        load(f"folder:{folder}", {}, tmp_path / "cache")
    assert error.value.exit_code == 3
    left = [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert all(name.endswith(".lock") for name in left)


def test_nothing_to_read(tmp_path):
    (tmp_path / "p").mkdir()
    with pytest.raises(DataError, match=r"p: holds no images \(\.png"):
        load(f"folder:{tmp_path / 'p'}", {}, tmp_path / "cache")
    with pytest.raises(DataError, match=r"none: no such folder"):
        load(f"folder:{tmp_path / 'none'}", {}, tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"data\.folder\.path=''"):
        load("folder", {}, tmp_path / "cache")
    (tmp_path / "a.png").write_bytes(png(picture(0)))
    with pytest.raises(DataError, match=r"a\.png: is neither a folder nor a tar or zip"):
        load(f"folder:{tmp_path / 'a.png'}", {}, tmp_path / "cache")
    write(tmp_path / "two", names(2))
    with pytest.raises(DataError, match="too few to split"):
        load(f"folder:{tmp_path / 'two'}", {}, tmp_path / "cache")


@pytest.mark.parametrize("target", ["photos/000.png", "photos", "gone.png"])
def test_links_out_of_the_folder_are_refused(tmp_path, target):
    """To a file, to a folder and to nothing; in archives every link is refused."""
    write(tmp_path / "photos", names())
    set_dir = write(tmp_path / "set", names())
    (set_dir / "link.png").symlink_to(tmp_path / target)
    for where in (set_dir, tmp_path / "set" / ".." / "set"):
        with pytest.raises(DataError, match=rf"link\.png: is a link to {tmp_path / target}"):
            load(f"folder:{where}", {}, tmp_path / "cache")


def test_links_within_the_folder_and_to_it_are_followed(tmp_path):
    set_dir = write(tmp_path / "set", names())
    (set_dir / "again.png").symlink_to("000.png")
    (tmp_path / "link").symlink_to(set_dir)
    data = load(f"folder:{tmp_path / 'link'}", {}, tmp_path / "cache")
    assert sum(data.spec.split_sizes.values()) == NUM + 1


def test_folders_deeper_than_python_recurses(tmp_path, monkeypatch):
    write(tmp_path / "set", names())
    monkeypatch.chdir(tmp_path / "set")
    depth = 1500
    for _ in range(depth):
        os.mkdir("a")
        os.chdir("a")
    data = load(f"folder:{tmp_path / 'set'}", {}, tmp_path / "cache")
    assert data.spec.split_sizes["train"] == 22
    # By hand: pytest's own removal recurses.
    for _ in range(depth):
        os.chdir("..")
        os.rmdir("a")
