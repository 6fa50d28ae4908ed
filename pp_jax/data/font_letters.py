"""font_letters: the letters A–Z and a–z rendered from the fonts that matplotlib ships, distorted, MNIST-like.

An attacker's public pool that is there on every machine. The set is a function of the seed and of the versions of
matplotlib (the fonts) and Pillow (the rasteriser).
"""

import dataclasses
import functools
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pp_jax import _matplotlib
from pp_jax.data.types import DataError, Raw, Track, silent

LETTERS = tuple(string.ascii_uppercase + string.ascii_lowercase)
COUNTS = {"train": 10_000, "test": 2_000}

# Matplotlib's other fonts (LastResort, STIX sizes, cmex, cmsy, DejaVu Display) lack some of the letters.
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmb10", "cmmi10", "cmr10", "cmss10", "cmtt10"),
)

_SIDE, _BOX, _GLYPH_PX, _CANVAS = 28, 20, 64, 144


@dataclasses.dataclass(frozen=True)
class Distortion:
    """The ranges of the random affine map: rotation in degrees, shear, and the scale of each axis."""

    rotation: float = 20.0
    shear: float = 0.4
    low: float = 0.8
    high: float = 1.25


def make(*, seed: int = 0, counts: dict[str, int] | None = None, track: Track = silent) -> Raw:
    """Render the set: per image a font, a rotation in ±20°, a shear in ±.4 and a scale of each axis in .8–1.25.

    A letter is fitted into 20×20 with its proportions kept, then centred by mass in 28×28, as MNIST's digits are;
    white on black. The classes are balanced: labels go round A–Z, a–z.

    Args:
        seed: names the set; each split draws its own numbers from it.
        counts: images per split, 10 000 train and 2 000 test by default.
        track: shows progress.

    Returns:
        Images (N, 28, 28, 1) uint8 and labels (N,) int32 by split, 52 class names.

    Raises:
        DataError: if this matplotlib ships none of the fonts.
    """
    fonts = _font_files()
    splits = {}
    for index, (split, count) in enumerate((counts or COUNTS).items()):
        rng = np.random.default_rng([seed, index])
        labels = np.arange(count, dtype=np.int32) % len(LETTERS)
        images = np.zeros((count, _SIDE, _SIDE, 1), np.uint8)
        for row, image in enumerate(track(_images(rng, fonts, labels), f"rendering {split}", count)):
            images[row, :, :, 0] = image
        splits[split] = (images, labels)
    return Raw(splits, LETTERS, f"rendered from {len(fonts)} fonts of matplotlib, seed {seed}")


def _images(rng: np.random.Generator, fonts: tuple[Path, ...], labels: np.ndarray) -> Iterator[np.ndarray]:
    """One distorted letter per label."""
    chosen = rng.integers(len(fonts), size=len(labels))
    maps = _affine_maps(rng, len(labels), Distortion())
    for label, font, matrix in zip(labels, chosen, maps, strict=True):
        yield render(_glyph(fonts[font], LETTERS[label]), matrix)


def _affine_maps(rng: np.random.Generator, count: int, ranges: Distortion) -> np.ndarray:
    """(count, 2, 2) matrices R(θ) · [[1, s], [0, 1]] · diag(a, b)."""
    theta = np.deg2rad(rng.uniform(-ranges.rotation, ranges.rotation, count))
    shear = rng.uniform(-ranges.shear, ranges.shear, count)
    scale = np.exp(rng.uniform(np.log(ranges.low), np.log(ranges.high), (count, 2)))
    cos, sin, zero = np.cos(theta), np.sin(theta), np.zeros(count)
    rotate = np.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)
    slant = np.stack([zero + 1, shear, zero, zero + 1], -1).reshape(-1, 2, 2)
    return rotate @ slant * scale[:, None, :]


def render(glyph: Image.Image, matrix: np.ndarray) -> np.ndarray:
    """Map a glyph by a 2×2 matrix, fit it into 20×20 and centre its mass in 28×28.

    Args:
        glyph: a greyscale image of one letter, white on black.
        matrix: (2, 2), from glyph to image coordinates (x to the right, y down).

    Returns:
        (28, 28) uint8.
    """
    inverse = np.linalg.inv(matrix)
    offset = np.array(glyph.size) / 2 - inverse @ np.full(2, _CANVAS / 2)
    coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
    mapped = glyph.transform((_CANVAS, _CANVAS), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    letter = mapped.crop(mapped.getbbox())
    ratio = _BOX / max(letter.size)
    width, height = (max(1, round(side * ratio)) for side in letter.size)
    return _centre(np.asarray(letter.resize((width, height), Image.Resampling.BOX)))


def _centre(letter: np.ndarray) -> np.ndarray:
    """Put a letter of at most 20×20 where its centre of mass is the image's, as far as the image's edge allows."""
    out = np.zeros((_SIDE, _SIDE), np.uint8)
    mass = letter.astype(np.float64)
    corner = []
    for axis, size in enumerate(letter.shape):
        centre = mass.sum(axis=1 - axis) @ (np.arange(size) + 0.5) / mass.sum()
        corner.append(int(np.clip(round(_SIDE / 2 - centre), 0, _SIDE - size)))
    top, left = corner
    out[top : top + letter.shape[0], left : left + letter.shape[1]] = letter
    return out


@functools.cache
def _glyph(font: Path, letter: str) -> Image.Image:
    """A letter, white on black, cut to its ink."""
    face = ImageFont.truetype(font, _GLYPH_PX, layout_engine=ImageFont.Layout.BASIC)
    image = Image.new("L", (3 * _GLYPH_PX, 3 * _GLYPH_PX))
    ImageDraw.Draw(image).text((_GLYPH_PX, _GLYPH_PX), letter, fill=255, font=face)
    return image.crop(image.getbbox())


def _font_files() -> tuple[Path, ...]:
    """The files of the fonts, in a fixed order."""
    folder = Path(_matplotlib.load().get_data_path()) / "fonts" / "ttf"
    found = tuple(path for path in (folder / f"{font}.ttf" for font in FONTS) if path.is_file())
    if not found:
        raise DataError(f"{folder} holds none of the fonts that font_letters is rendered from: reinstall matplotlib")
    return found
