"""Image files: the stored codes, unchanged, or a refusal that names the file."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vdm.data.reading.images import Resize, decode
from vdm.errors import ConfigError, DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
DEEP = RGB[..., 0].astype(np.uint16) * 257 + RGB[..., 1]


def encoded(image, kind, **options) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("codes", "kind", "options", "num_levels"),
    [
        (RGB, "PNG", {}, 256),
        (GREY, "PNG", {}, 256),
        (DEEP, "PNG", {}, 65_536),
        (RGB, "TIFF", {}, 256),
        (DEEP, "TIFF", {}, 65_536),
        (RGB, "TIFF", {"compression": "tiff_lzw"}, 256),
        (RGB, "BMP", {}, 256),
        (GREY, "BMP", {}, 256),
        (RGB, "WEBP", {"lossless": True}, 256),
        (GREY > 99, "PNG", {}, 2),
    ],
)
def test_lossless_codes_come_back(codes, kind, options, num_levels):
    found, facts = decode(encoded(codes, kind, **options), "a", 10**6)
    expected = codes if codes.ndim == 3 else codes[..., None]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == (np.uint16 if num_levels > 256 else np.uint8)
    assert facts == {"num_levels": num_levels, "lossy": False}


def test_one_channel_stays_one():
    found, _ = decode(encoded(GREY, "PNG"), "a", 10**6)
    assert found.shape == (6, 7, 1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("WEBP", {"quality": 80}), ("TIFF", {"compression": "jpeg"})],
)
def test_compression_with_loss_is_noticed(kind, options):
    assert decode(encoded(RGB, kind, **options), "a", 10**6)[1]["lossy"]


def png(color_type: int, depth: int, row: bytes, width=4, height=3) -> bytes:
    """A PNG by its specification."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    body = zlib.compress((b"\0" + row) * height)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


IMAGE = Image.fromarray(RGB)
REFUSED = {
    "palette": (encoded(IMAGE.convert("P"), "PNG"), "a palette"),
    "alpha": (encoded(IMAGE.convert("RGBA"), "PNG"), "an alpha channel"),
    "grey and alpha": (encoded(IMAGE.convert("LA"), "PNG"), "an alpha channel"),
    "transparent colour": (encoded(IMAGE, "PNG", transparency=(1, 2, 3)), "an alpha channel"),
    "WebP with alpha": (
        encoded(np.dstack([RGB, GREY]), "WEBP", lossless=True),
        "an alpha channel",
    ),
    "CMYK JPEG": (encoded(IMAGE.convert("CMYK"), "JPEG"), "CMYK"),
    "CMYK TIFF": (encoded(IMAGE.convert("CMYK"), "TIFF"), "CMYK"),
    "float TIFF": (encoded(GREY.astype(np.float32), "TIFF"), "mode F"),
    "16-bit RGB": (png(2, 16, bytes(range(24))), "RGB of 16 bits"),
    "several": (
        encoded(IMAGE, "TIFF", save_all=True, append_images=[IMAGE]),
        "holds several images",
    ),
    "no image": (b"hello", "no image that can be read"),
    "empty": (b"", "no image that can be read"),
    "GIF": (encoded(IMAGE.convert("P"), "GIF"), "no image that can be read"),
    "cut PNG": (encoded(RGB, "PNG")[:-60], "damaged"),
    "cut JPEG": (encoded(RGB, "JPEG")[:-60], "damaged"),
    "cut WebP": (encoded(RGB, "WEBP", lossless=True)[:-60], "damaged|no image"),
    "cut TIFF": (encoded(RGB, "TIFF")[:60], "damaged|no image"),
    "damaged PNG": (encoded(RGB, "PNG").replace(b"IDAT", b"IDOT"), "damaged|no image"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_modelled_is_refused_by_name(kind):
    content, message = REFUSED[kind]
    with pytest.raises(DataError, match=rf"photos/a\.png: .*({message})"):
        decode(content, "photos/a.png", 10**6)


def test_a_bomb_is_refused_before_it_is_unpacked():
    """10^10 pixels in 10 kB: unpacking would take 30 GB."""
    row = bytes(3 * 100_000)
    content = png(2, 8, row, width=100_000, height=100_000 // 10**4)
    header = struct.pack(">II", 100_000, 100_000)
    start = content.index(b"IHDR") + 4
    head = b"IHDR" + header + content[start + 8 : start + 13]
    content = (
        content[: start - 4] + head + struct.pack(">I", zlib.crc32(head)) + content[start + 17 :]
    )
    with pytest.raises(DataError, match=r"a: .*10000000000 pixels.*made to fill the memory"):
        decode(content, "a", 10**6)


def test_an_image_of_too_many_pixels():
    with pytest.raises(DataError, match=r"a: 7 x 6 pixels are more than 41"):
        decode(encoded(RGB, "PNG"), "a", 41)


def test_the_file_is_read_from_a_path_too(tmp_path):
    (tmp_path / "a.webp").write_bytes(encoded(RGB, "WEBP", lossless=True))
    found, facts = decode(tmp_path / "a.webp", "a", 10**6)
    np.testing.assert_array_equal(found, RGB)
    assert not facts["lossy"]


def test_cropping_takes_the_centre():
    image = np.arange(6 * 8 * 2, dtype=np.uint8).reshape(6, 8, 2)
    np.testing.assert_array_equal(Resize(crop=4)(image, "a"), image[1:5, 2:6])
    with pytest.raises(DataError, match=r"a: 6 x 8 is smaller than crop=7"):
        Resize(crop=7)(image, "a")


def test_a_box_filter_averages():
    image = np.arange(4 * 4, dtype=np.uint8).reshape(4, 4, 1) * 16
    expected = image.reshape(2, 2, 2, 2, 1).mean(axis=(1, 3))
    np.testing.assert_allclose(Resize(size=2, filter="box")(image, "a"), expected, atol=0.5)


def test_resizing_keeps_constants_and_channels_apart():
    image = np.broadcast_to(np.array([10, 200, 30], np.uint8), (8, 8, 3))
    for name in ("box", "bilinear", "bicubic", "lanczos"):
        assert (Resize(size=3, filter=name)(image, "a") == [10, 200, 30]).all()


def test_what_is_done_is_said():
    assert Resize().describe() == ""
    text = Resize(crop=148, size=64, filter="bicubic").describe()
    assert text == "images cropped to the central 148 x 148, resized to 64 x 64 (bicubic, Pillow)"


def test_impossible_resizing_is_refused():
    with pytest.raises(
        ConfigError, match=r"data\.resize\.filter='cubic': no such filter; .*bicubic"
    ):
        Resize(filter="cubic")
    with pytest.raises(ConfigError, match=r"data\.resize\.size=-1"):
        Resize(size=-1)
    with pytest.raises(DataError, match=r"a: 6 x 7 is not square.*crop it first"):
        Resize(size=4)(RGB, "a")
    with pytest.raises(DataError, match="only images of 8 bits"):
        Resize(size=4)(np.zeros((6, 6, 1), np.uint16), "a")
