"""Mosaics: tiles row by row, and missing ones declared."""

import numpy as np
import pytest
from PIL import Image

from vdm.data.sources import mosaics
from vdm.errors import DataError

SHAPE = (3, 4, 3)


def write_set(folder, num_columns=5, valid=None):
    """Two mosaics of train and one of test; returns tiles by split."""
    rng, tiles = np.random.default_rng(0), {}
    for split, sizes in (("train", (20, 10)), ("test", (10,))):
        pieces = [rng.integers(0, 256, (n, *SHAPE), dtype=np.uint8) for n in sizes]
        for number, piece in enumerate(pieces):
            rows = [
                np.concatenate(list(row), axis=1) for row in piece.reshape(-1, num_columns, *SHAPE)
            ]
            name = f"{split}_{number}.webp" if split == "train" else "test.webp"
            Image.fromarray(np.concatenate(rows, axis=0)).save(folder / name, lossless=True)
        tiles[split] = np.concatenate(pieces)
    facts = {f"{s}_labels": np.arange(len(t), dtype=np.uint8) % 10 for s, t in tiles.items()}
    facts |= {f"{s}_valid": np.ones(len(t), bool) for s, t in tiles.items()}
    np.savez(folder / "labels.npz", **(facts | (valid or {})))
    return tiles


def test_tiles_come_back_in_order(tmp_path):
    tiles = write_set(tmp_path)
    material = mosaics.read(mosaics.find(tmp_path), SHAPE)
    for split, expected in tiles.items():
        np.testing.assert_array_equal(material.images[split], expected)
        assert material.labels[split].tolist() == [n % 10 for n in range(len(expected))]
        assert len(material.missing[split]) == 0


def test_missing_tiles_are_declared_and_left_out(tmp_path):
    valid = np.ones(30, bool)
    valid[[3, 25]] = False
    tiles = write_set(tmp_path, valid={"train_valid": valid})
    material = mosaics.read(mosaics.find(tmp_path), SHAPE)
    assert material.missing["train"].tolist() == [3, 25]
    np.testing.assert_array_equal(material.images["train"], tiles["train"][valid])
    assert material.index["train"].tolist() == np.flatnonzero(valid).tolist()
    assert material.labels["train"].tolist() == (np.flatnonzero(valid) % 10).tolist()


@pytest.mark.parametrize("name", ["labels.npz", "test.webp"])
def test_a_set_that_is_not_whole_is_not_found(tmp_path, name):
    write_set(tmp_path)
    (tmp_path / name).unlink()
    assert mosaics.find(tmp_path) == []


def test_what_is_damaged_is_named(tmp_path):
    write_set(tmp_path)
    with pytest.raises(DataError, match=r"train_0\.webp: \(12, 20, 3\) is no grid of tiles"):
        mosaics.read(mosaics.find(tmp_path), (5, 4, 3))
    (tmp_path / "train_1.webp").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"train_1\.webp: "):
        mosaics.read(mosaics.find(tmp_path), SHAPE)
    (tmp_path / "labels.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"labels\.npz: cannot be read"):
        mosaics.read(mosaics.find(tmp_path), SHAPE)
