"""One picture: every format of Pillow's, 16 bits, transparency, orientation, frames, and what cannot be read."""

import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from encoded import GREY, picture
from pp_jax.data.formats import pictures
from pp_jax.data.formats.pictures import FIRST_FRAME, ON_BLACK, ON_WHITE, TURNED, UPPER_BITS, Unreadable, decode

RAMP = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369


def grey(data: bytes) -> np.ndarray:
    return decode(data, "a/x", 1).pixels[..., 0]


LOSSLESS = ["PNG", "BMP", "TIFF", "GIF", "PPM", "TGA", "PCX", "SGI", "DIB", "JPEG2000"]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_are_read_exactly(kind):
    image = Image.fromarray(GREY)
    data = picture(
        image if kind in ("PNG", "BMP", "TIFF", "GIF", "PPM", "TGA", "PCX", "SGI") else image.convert("RGB"), kind
    )
    np.testing.assert_array_equal(grey(data), GREY)
    np.testing.assert_array_equal(decode(data, "x", 3).pixels, np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize(
    "suffix",
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".webp",
        ".bmp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".tif",
        ".tiff",
        ".gif",
        ".jp2",
        ".tga",
    ],
)
def test_the_usual_suffixes_are_pictures(suffix):
    assert suffix in pictures.suffixes()


@pytest.mark.parametrize("suffix", ["", ".txt", ".eps", ".ps", ".h5", ".mpg", ".wmf", ".npz", ".zip"])
def test_what_pillow_does_not_decode_itself_is_no_picture(suffix):
    assert suffix not in pictures.suffixes()


@pytest.mark.parametrize(
    "data",
    [
        picture(RAMP),
        picture(RAMP, "TIFF"),
        picture(RAMP.astype(">u2"), "TIFF"),
        picture(RAMP, "TIFF", compression="tiff_lzw"),
        picture(RAMP, "JPEG2000"),
        b"P5 4 4 65535\n" + RAMP.astype(">u2").tobytes(),
    ],
)
def test_of_16_bits_the_upper_8_are_kept(data):
    found = decode(data, "x", 1)
    np.testing.assert_array_equal(found.pixels[..., 0], RAMP >> 8)
    assert found.treated == (UPPER_BITS,)
    np.testing.assert_array_equal(decode(data, "x", 3).pixels, np.repeat((RAMP >> 8)[..., None], 3, 2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (picture(RAMP.astype(np.float32), "TIFF"), "floating-point values or more than 16 bits"),
        (picture(RAMP.astype(np.int32), "TIFF"), "floating-point values or more than 16 bits"),
        (b"Pf\n2 2\n-1.0\n" + np.ones(4, np.float32).tobytes(), "floating-point"),
        (picture(RAMP >> 8), "no value above 255 of 65535, so it is all black"),
    ],
)
def test_values_that_8_bits_do_not_hold_are_refused(data, message):
    with pytest.raises(Unreadable, match=message):
        decode(data, "x", 1)


def test_16_bits_of_nothing_are_black():
    assert not grey(picture(RAMP * 0)).any()


INK = np.zeros((4, 4), np.uint8)
INK[1:3, 1:3] = 255


def layered(shade: int, mode: str) -> Image.Image:
    """A square of a shade on a transparent ground of the same shade."""
    image = Image.merge("LA", [Image.new("L", (4, 4), shade), Image.fromarray(INK)])
    return image if mode == "LA" else image.convert("RGBA")


def palette(shade: int) -> bytes:
    """The same as a palette picture."""
    image = Image.fromarray(INK // 255).convert("P")
    image.putpalette([shade] * 6)
    return picture(image, transparency=0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda shade: picture(layered(shade, "LA")),
        lambda shade: picture(layered(shade, "RGBA")),
        lambda shade: picture(layered(shade, "RGBA"), "TIFF"),
        lambda shade: picture(layered(shade, "RGBA"), "WEBP", lossless=True, exact=True),
        palette,
    ],
)
def test_a_drawing_on_a_transparent_ground_does_not_vanish(draw):
    black, white = decode(draw(0), "x", 1), decode(draw(255), "x", 1)
    np.testing.assert_array_equal(black.pixels[..., 0], 255 - INK)
    np.testing.assert_array_equal(white.pixels[..., 0], INK)
    assert (black.treated, white.treated) == ((ON_WHITE,), (ON_BLACK,))


def test_a_shade_that_is_declared_transparent_is_white():
    np.testing.assert_array_equal(grey(picture(GREY, transparency=3)), np.where(GREY == 3, 255, GREY))
    np.testing.assert_array_equal(grey(picture(RAMP, transparency=4369)), np.where(RAMP == 4369, 255, RAMP >> 8))


def test_what_is_opaque_is_left_alone_and_what_is_clear_is_white():
    assert decode(picture(Image.fromarray(GREY).convert("RGBA")), "x", 1).treated == ()
    assert (grey(picture(np.zeros((4, 4, 4), np.uint8))) == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_the_exif_orientation_is_applied(kind, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.repeat(np.linspace(0, 255, 16, dtype=np.uint8)[None], 8, 0)
    found = decode(picture(pixels, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})), "x", 1)
    np.testing.assert_allclose(found.pixels[..., 0], np.rot90(pixels, turn), atol=3)
    assert found.treated == ((TURNED,) if turn else ())


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_of_several_frames_the_first_is_taken(kind):
    frames = [Image.new("RGB", (64, 64), (shade,) * 3) for shade in (10, 200)]
    found = decode(picture(frames[0], kind, save_all=True, append_images=frames[1:]), "x", 1)
    assert (found.pixels == 10).all()
    assert found.treated == (FIRST_FRAME,)


def test_colours_are_those_of_the_file():
    assert grey(picture(Image.fromarray(np.eye(4, dtype=bool)))).tolist() == (255 * np.eye(4, dtype=int)).tolist()
    cmyk = decode(picture(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), "x", 3).pixels
    np.testing.assert_allclose(cmyk, np.broadcast_to([255, 0, 0], cmyk.shape), atol=3)
    coded = Image.fromarray(np.eye(2, dtype=np.uint8)).convert("P")
    coded.putpalette([10, 20, 30, 200, 100, 50])
    found = decode(picture(coded), "x", 3).pixels
    assert found[0].tolist() == [[200, 100, 50], [10, 20, 30]]


def empty_png(side: int) -> bytes:
    """The header of a PNG of side × side, without pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_more_pixels_than_pillow_allows_are_refused_without_being_decoded():
    with pytest.raises(Unreadable, match="more pixels than Pillow's limit of 178956970"):
        decode(empty_png(20_000), "x", 3, 64)


def test_a_picture_within_twice_the_limit_is_read_without_a_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    np.testing.assert_array_equal(grey(picture(GREY)), GREY)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing"),
        (b"<html>404", "starts with 3c 68 74 6d"),
        (picture(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8), "JPEG")[:900], "truncated"),
        (picture()[:45] + bytes([picture()[45] ^ 255]) + picture()[46:], "checksum"),
    ],
)
def test_what_is_no_whole_picture_says_why(data, message):
    with pytest.raises(Unreadable, match=rf"a/x is not a whole image \(.*{message}.*\): fetch it again"):
        decode(data, "a/x", 1)


def test_damaged_pictures_are_one_error_or_a_picture(capfd):
    exif = Image.Exif()
    exif[0x0112] = 6
    colour = Image.fromarray(GREY).convert("RGB")
    whole = [picture(colour, kind) for kind in ("PNG", "GIF", "WEBP", "BMP", "PPM", "JPEG2000", "TGA", "ICO")]
    whole += [picture(colour, "JPEG", exif=exif), picture(RAMP), picture(RAMP, "TIFF", compression="tiff_lzw")]
    whole += [picture(colour.convert("1"), "TIFF", compression="group4"), picture(colour.convert("P"), transparency=1)]
    rng = random.Random(0)
    for _ in range(600):
        data = bytearray(rng.choice(whole))
        data = data[: rng.randrange(len(data))] if rng.random() < 0.3 else data
        for _ in range(rng.choice([1, 2, 9])):
            if data:
                data[rng.randrange(min(len(data), 90))] = rng.randrange(256)
        said = ""
        with warnings.catch_warnings(action="error"):
            try:
                assert decode(bytes(data), "x", 1, 8).pixels.shape == (8, 8, 1)
            except Unreadable as error:
                said = str(error)
        assert "\n" not in said
        assert len(said) < 400
    assert capfd.readouterr().err == ""
