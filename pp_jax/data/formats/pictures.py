"""One encoded picture as an array: whatever Pillow reads, upright, at 8 bits, on a ground."""

import contextlib
import dataclasses
import functools
import io
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from pp_jax.data.phrases import why
from pp_jax.data.types import DatasetCorrupt

TURNED = "turned upright by the EXIF orientation"
ON_WHITE = "transparent and laid on white"
ON_BLACK = "transparent and laid on black, where on white nothing is seen"
UPPER_BITS = "of 16 bits a pixel, of which the upper 8 are kept"
FIRST_FRAME = "of several frames, of which the first is taken"

# What Pillow recognises without decoding it, or decodes with another program.
_NOT_READ = {"EPS", "MPEG", "HDF5", "GRIB", "BUFR", "WMF", "IPTC"}

# Pillow's decoders raise nearly anything on damaged data.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError, RuntimeError)
_MISREAD = (ArithmeticError, LookupError, TypeError, AttributeError, AssertionError)

_TIFF = (b"II", b"MM")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(DatasetCorrupt):
    """A file cannot be taken as a picture of a set; `kind` says what it is, of one and of several."""

    def __init__(self, message: str, one: str = "file that is no whole image", several: str = "") -> None:
        super().__init__(message)
        self.kind = one, several or "files that are no whole images"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (H, W, channels) uint8.
        treated: what was done to it, of `TURNED`, `ON_WHITE`, `ON_BLACK`, `UPPER_BITS` and `FIRST_FRAME`.
    """

    pixels: np.ndarray
    treated: tuple[str, ...] = ()


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes of the formats that this Pillow decodes, in lower case."""
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in known if kind in _formats())


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that this Pillow decodes by itself."""
    Image.init()
    return tuple(kind for kind in Image.OPEN if kind not in _NOT_READ)


def decode(data: bytes, where: str, channels: int, size: int | None = None) -> Picture:
    """Decode one picture.

    Of several frames the first is taken; the EXIF orientation is applied, as viewers do; of 16 bits a pixel the upper
    8 are kept (v >> 8); what is transparent is laid on white, or on black where on white nothing would be seen.

    Args:
        data: the file.
        where: its name, for messages.
        channels: 1 (grey) or 3 (RGB); pictures of another kind are converted.
        size: side to which the centre square is resampled (Lanczos); None leaves the picture as it is.

    Raises:
        Unreadable: if it is damaged, no picture, of more pixels than Pillow's limit, or of values that 0..255 or
            0..65535 do not hold.
    """
    try:
        with warnings.catch_warnings(action="ignore"), _quiet(data[:2] in _TIFF), _checked(data) as opened:
            turned = _is_turned(opened)
            opened.load()
            flat, treated = _flat(opened, where)
            image = _upright(opened, flat).convert("L" if channels == 1 else "RGB")
            several = _has_more_frames(opened)
            if size is not None:
                image = centre_square(image, size)
            pixels = np.asarray(image).reshape(image.height, image.width, channels)
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable(
            f"{where} has more pixels than Pillow's limit of {2 * (Image.MAX_IMAGE_PIXELS or 0)}: make it smaller",
            "image of more pixels than Pillow's limit",
            "images of more pixels than Pillow's limit",
        ) from error
    except UnidentifiedImageError as error:
        raise Unreadable(
            f"{where} is not a whole image (it starts with {data[:4].hex(' ') or 'nothing'}): fetch it again"
        ) from error
    except (*_DAMAGE, *_MISREAD) as error:
        raise Unreadable(f"{where} is not a whole image ({why(error)}): fetch it again") from error
    applied = {TURNED: turned, FIRST_FRAME: several}
    return Picture(pixels, (*treated, *(what for what, applies in applied.items() if applies)))


def _checked(data: bytes) -> Image.Image:
    """An opened image, the checksums of a PNG compared: Pillow leaves out those of the pixels when it decodes."""
    opened = Image.open(io.BytesIO(data), formats=_formats())
    if opened.format != "PNG":
        return opened
    opened.verify()
    return Image.open(io.BytesIO(data), formats=("PNG",))


@contextlib.contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Without what libtiff prints on damaged files: it goes past Python to the process's standard error."""
    if not wanted or sys.__stderr__ is None:
        yield
        return
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def centre_square(image: Image.Image, size: int) -> Image.Image:
    """The centre square of an image, resampled to size × size."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side))


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """How an image is to be turned; None for one that is upright or whose EXIF data are damaged."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (*_DAMAGE, *_MISREAD):
        return None


def _is_turned(image: Image.Image) -> bool:
    """Whether an image that is not yet loaded will be turned, by `_upright` or, if it is a TIFF, by Pillow itself."""
    return _orientation(image) is not None


def _upright(opened: Image.Image, image: Image.Image) -> Image.Image:
    """`image` turned as the EXIF data of the loaded file say."""
    turn = _orientation(opened)
    return image if turn is None else image.transpose(turn)


def _flat(image: Image.Image, where: str) -> tuple[Image.Image, tuple[str, ...]]:
    """An image at 8 bits without transparency, and what was done for that."""
    if image.mode.startswith(("I", "F")):
        return _upper_bits(image, where), (UPPER_BITS,)
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") or not image.has_transparency_data:
        return image, ()
    return _on_ground(image.convert("LA") if image.mode == "La" else image)


def _upper_bits(image: Image.Image, where: str) -> Image.Image:
    """The upper 8 of 16 bits a pixel; a colour that is declared transparent becomes white."""
    values = np.asarray(image)
    deep = image.mode == "F" or (image.mode == "I" and not _holds_sixteen_bits(image))
    if deep or not 0 <= values.min() <= values.max() <= 0xFFFF:
        raise Unreadable(
            f"{where} has floating-point values or more than 16 bits a pixel: store it with 8 or 16 bits a pixel",
            "image of floating-point values or of more than 16 bits a pixel",
            "images of floating-point values or of more than 16 bits a pixel",
        )
    if 0 < values.max() < 0x100:
        raise Unreadable(
            f"{where} has 16 bits a pixel but no value above {values.max()} of 65535, so it is all black: store it "
            "with 8 bits a pixel",
            "image of 16 bits a pixel that uses the lower 8 alone",
            "images of 16 bits a pixel that use the lower 8 alone",
        )
    grey = (values >> 8).astype(np.uint8)
    clear = image.info.get("transparency")
    return Image.fromarray(grey if clear is None else np.where(values == clear, np.uint8(255), grey))


def _holds_sixteen_bits(image: Image.Image) -> bool:
    """Whether an image of Pillow's mode I, 32 bits, comes from a file of 16: PNG and PGM know no more."""
    bits = image.tag_v2.get(258) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    return image.format in ("PNG", "PPM", "JPEG2000") or bits == (16,)


def _on_ground(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """A transparent image on white, or on black where white leaves a single colour and black does not."""
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema()[0] == 255:
        return layer.convert("RGB"), ()
    on_white = _laid_on("white", layer)
    if _is_plain(on_white) and not _is_plain(on_black := _laid_on("black", layer)):
        return on_black, (ON_BLACK,)
    return on_white, (ON_WHITE,)


def _laid_on(ground: str, layer: Image.Image) -> Image.Image:
    """An RGBA image on a ground of one colour, as RGB."""
    return Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer).convert("RGB")


def _is_plain(image: Image.Image) -> bool:
    """Whether an RGB image has one colour."""
    return all(band.getextrema()[0] == band.getextrema()[1] for band in image.split())


def _has_more_frames(image: Image.Image) -> bool:
    """Whether a file holds a second frame."""
    try:
        image.seek(1)
    except (*_DAMAGE, *_MISREAD, Image.DecompressionBombError):
        return False
    return True
