"""Every kind of picture, right or refused by name and position."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from coembed.items import BadItem
from coembed_image.pictures import picture_file, picture_key, samples, to_pixels
from coembed_image.read import FORMATS, read_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def colour(item: Any) -> tuple[int, ...]:
    """The one colour of a picture."""
    picture = read_image(item)
    assert picture.mode == "RGB"
    colours = np.unique(np.asarray(picture).reshape(-1, 3), axis=0)
    assert len(colours) == 1
    return tuple(int(value) for value in colours[0])


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


def refusal(item: Any) -> str:
    """The message for a bad item among good ones; its position must be the item's."""
    good = np.zeros((2, 2), np.uint8)
    with pytest.raises(BadItem) as caught:
        to_pixels([good, item, good], lambda picture: torch.zeros(3, 1, 1))
    assert caught.value.position == 1
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "AVIF"])
def test_files_paths_and_bytes_of_every_format(kind: str, tmp_path: Path) -> None:
    assert kind in FORMATS
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    data = encoded(Image.new("RGB", (32, 32), RED), kind, **({"lossless": True} if kind == "WEBP" else {}))
    path = tmp_path / "picture.bin"  # the content decides, not the suffix
    path.write_bytes(data)
    for item in (data, bytearray(data), memoryview(data), path, str(path)):
        assert np.allclose(colour(item), RED, atol=3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 3), RED, np.uint8), RED),
        (np.full((2, 3, 4), (255, 0, 0, 0), np.uint8), WHITE),
        (np.full((2, 3), 0x8080, np.uint16), (128, 128, 128)),
        (np.full((2, 3, 3), (0xFFFF, 0, 0), np.uint16), RED),
        (np.full((2, 3, 3), (1.0, 0.0, 0.0), np.float32), RED),
        (np.full((2, 3), 0.5, np.float64), (128, 128, 128)),
        (np.full((2, 3), 1.0005, np.float32), WHITE),  # a resampler's overshoot
        (np.ones((2, 3), np.bool_), WHITE),
        (np.full((4, 6, 3), RED, np.uint8)[::2, ::2], RED),
    ],
)
def test_arrays(values: np.ndarray, expected: tuple[int, ...]) -> None:
    before = values.copy()
    assert colour(values) == expected
    assert (values == before).all()
    assert read_image(values).size == (3, 2)


def test_tensors_have_channels_first() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 2, 5)
    assert colour(red) == RED and read_image(red).size == (5, 2)
    assert colour((red * 255).byte()) == RED
    assert colour(red.bfloat16().requires_grad_()) == RED
    assert colour(torch.full((2, 3), 0.5)) == colour(torch.full((1, 2, 3), 0.5)) == (128, 128, 128)
    assert "tensors have channels first" in refusal(torch.zeros(2, 5, 3))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros((0, 4), np.uint8), r"shape \[0, 4\] holds no pixel"),
        (np.zeros((4, 0, 3)), r"shape \[4, 0, 3\] holds no pixel"),
        (np.zeros((3, 4, 5), np.uint8), r"shape \[3, 4, 5\] is not \[H, W\].*put channels last"),
        (np.zeros((4, 5, 2), np.uint8), r"shape \[4, 5, 2\] is not"),
        (np.zeros(4, np.uint8), r"shape \[4\] is not"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"shape \[2, 3, 4, 4\] is not"),
        (np.full((2, 2), np.nan), "NaN or infinity"),
        (np.full((2, 2), np.inf, np.float32), "NaN or infinity"),
        (np.full((2, 2), 255.0), r"floating point from 255 to 255; scale it to 0\.\.1"),
        (np.full((2, 2), -1.0), r"from -1 to -1"),
        (np.zeros((2, 2), np.int64), "dtype int64 has no known scale"),
        (np.array([["a", "b"]]), "has no known scale"),
        (torch.zeros(3, 0, 4), "holds no pixel"),
        (torch.full((3, 2, 2), float("nan")), "NaN or infinity"),
        (None, "got NoneType None, expected a file path"),
        (3, "got int 3"),
        ({"image": 1}, "got dict"),
        ([[0, 0]], "got list"),
        (b"", "got 0 bytes"),
        (b"no picture at all", "17 bytes, which holds no picture, expected one of"),
        ("https://example.org/cat.png", r"the URL 'https://example.org/cat.png', .*nothing is fetched"),
        ("data:image/png;base64,AAAA", "the URL 'data:image"),
        ("no/such/picture.png", r"the file 'no/such/picture.png' \(.*No such file"),
        ("a\0b.png", "null"),
        ("x" * 9000, "an image file that can be read"),
        (Image.new("RGB", (0, 4)), "0 x 4 pixels, expected at least one pixel"),
        (Image.new("L", (2000, 4)), "2000 x 4 pixels, expected sides that differ at most 200 times"),
    ],
)
def test_what_is_no_picture_is_refused_by_name_and_position(item: Any, message: str) -> None:
    assert re.search(message, refusal(item)), refusal(item)


def test_folders_and_empty_files_are_refused(tmp_path: Path) -> None:
    assert f"the folder {str(tmp_path)!r}" in refusal(tmp_path) and "the folder" in refusal(str(tmp_path))
    (tmp_path / "empty.png").touch()
    assert "empty.png', which is empty" in refusal(tmp_path / "empty.png")
    (tmp_path / "words.png").write_text("these are words")
    assert "words.png', which holds no picture" in refusal(tmp_path / "words.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_truncated_files_are_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    assert read_image(data).size == (64, 64)
    for kept in (len(data) // 2, len(data) * 9 // 10):
        assert "damaged or cut off" in refusal(data[:kept]) or "holds no picture" in refusal(data[:kept])


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 30_000])  # Pillow warns of the one and refuses the other
def test_decompression_bombs_are_refused_and_pillows_guard_stays(side: int, tmp_path: Path) -> None:
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    data = png_that_claims(side, side)
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    for item in (data, path):
        assert f"decompression bomb (Image size ({side * side} pixels)" in refusal(item)
        assert f"expected at most {limit} pixels" in refusal(item)
    assert limit == Image.MAX_IMAGE_PIXELS and filters == list(warnings.filters)


def test_a_lowered_limit_of_pillow_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("RGB", (100, 100), RED), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    assert "decompression bomb" in refusal(data)


def test_formats_that_run_other_programs_are_not_opened() -> None:
    assert "holds no picture" in refusal(encoded(Image.new("RGB", (8, 8), RED), "EPS"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animated_and_many_paged_files_give_the_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), name) for name in ("red", "blue", "lime")]
    data = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    picture = Image.open(io.BytesIO(data))
    assert picture.n_frames == 3
    assert colour(data) == RED
    picture.seek(2)
    assert colour(picture) == RED, "also of an open picture that stands at another frame"
    assert picture.tell() == 2, "and it goes on standing there"


def test_cmyk_is_converted() -> None:
    assert colour(Image.new("CMYK", (4, 4), (0, 255, 255, 0))) == RED
    assert np.allclose(colour(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")), RED, atol=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    picture = Image.fromarray(ramp)
    assert picture.mode == "I;16"
    for item in (picture, encoded(picture, kind)):
        values = np.asarray(read_image(item))
        assert (values[0, :, 0] == np.arange(256)).all(), "65535 becomes 255, and the steps between stay even"


def test_thirty_two_bits_have_no_known_scale() -> None:
    whole = Image.fromarray(np.full((2, 2), 300, np.int32))
    assert whole.mode == "I" and "32-bit integers have no known scale" in refusal(whole)
    large = encoded(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF")
    assert "from 70000 to 70000 have no known scale" in refusal(large)
    assert colour(Image.fromarray(np.full((2, 2), 0.5, np.float32))) == (128, 128, 128)
    assert "floating point from 300 to 300" in refusal(Image.fromarray(np.full((2, 2), 300, np.float32)))


def test_one_bit_grey_and_palette() -> None:
    assert colour(Image.new("1", (3, 3), 1)) == WHITE and colour(Image.new("1", (3, 3), 0)) == (0, 0, 0)
    assert colour(Image.new("L", (3, 3), 9)) == (9, 9, 9)
    palette = Image.new("RGB", (3, 3), RED).convert("P")
    assert palette.mode == "P" and colour(palette) == RED and colour(encoded(palette, "PNG")) == RED
    for mode in ("HSV", "YCbCr", "LAB"):
        assert np.allclose(colour(Image.new("RGB", (3, 3), RED).convert(mode)), RED, atol=6)


def test_transparency_lies_on_white() -> None:
    half = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    assert colour(half) == (255, 127, 127) == colour(encoded(half, "PNG"))
    assert colour(Image.new("RGBA", (2, 2), (0, 0, 0, 0))) == WHITE
    assert colour(Image.new("LA", (2, 2), (0, 128))) == (127, 127, 127)
    assert colour(half.convert("RGBa")) == (255, 127, 127)
    for mode, transparent in (("P", 0), ("L", 0), ("1", 0), ("RGB", (0, 0, 0))):
        picture = Image.new(mode, (2, 2), 0)
        assert colour(encoded(picture, "PNG", transparency=transparent)) == WHITE, mode
    assert colour(encoded(Image.new("P", (2, 2), 0), "GIF", transparency=0)) == WHITE


def test_exif_rotation_is_applied() -> None:
    picture = Image.new("RGB", (16, 8), "blue")
    picture.paste(RED, (0, 0, 8, 8))  # the left half is red
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    data = encoded(picture, "PNG", exif=exif)
    opened = Image.open(io.BytesIO(data))
    for item in (data, opened):
        upright = read_image(item)
        assert upright.size == (8, 16)
        assert upright.getpixel((4, 2)) == RED and upright.getpixel((4, 13)) == (0, 0, 255)
    assert opened.size == (16, 8), "the item itself stays as it was"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, of the EXIF
def test_damaged_exif_does_not_cost_the_picture() -> None:
    data = encoded(Image.new("RGB", (8, 8), RED), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    assert colour(data) == RED


def test_keys_follow_what_is_shown(tmp_path: Path) -> None:
    red, path = encoded(Image.new("RGB", (4, 4), RED), "PNG"), tmp_path / "a.png"
    path.write_bytes(red)
    assert picture_key(path) == picture_key(str(path)) == picture_key(red)
    path.write_bytes(encoded(Image.new("RGB", (4, 4), "blue"), "PNG"))
    assert picture_key(path) != picture_key(red), "a file that changed is another item"
    red_palette, blue_palette = (Image.new("P", (4, 4), 0) for _ in range(2))
    red_palette.putpalette(RED)
    blue_palette.putpalette((0, 0, 255))
    assert picture_key(red_palette) != picture_key(blue_palette)
    assert picture_key(red_palette) == picture_key(np.full((4, 4, 3), RED, np.uint8))
    assert picture_key(np.zeros((2, 8), np.uint8)) != picture_key(np.zeros((4, 4), np.uint8))
    for bad in (tmp_path / "missing.png", "https://example.org/x.png", None, np.zeros((0, 3))):
        assert isinstance(picture_key(bad), bytes), "what is wrong with it is said where its position is known"


def test_files_are_read_as_their_path(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(samples()[0], "PNG"))
    assert picture_file(path) == [path]
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no picture"):
        picture_file(path)
