"""Arrays as people store images and labels, brought to one form wherever they can mean only one thing."""

import numpy as np

from pp_jax.data.spec import Shape
from pp_jax.data.types import DatasetCorrupt

_ROWS = 4096
_MOST_CLASSES = 100_000


def images(array: np.ndarray, shape: Shape, where: str, *, planar: bool = False) -> np.ndarray:
    """Images as uint8 (N, H, W, C), 0..255.

    Taken are bytes; other numbers that are whole and lie in 0..255; floating-point numbers k/255 in 0..1; booleans, as
    black and white. The channel may be absent, last or first; an image may be one row if it has one channel.

    Args:
        array: the images as stored.
        shape: (H, W, C) as far as it is known.
        where: what they are called, for messages.
        planar: whether a row holds one channel after the other.

    Raises:
        DatasetCorrupt: if the array can mean several things, or nothing.
    """
    height, width, channels = shape
    if array.ndim == 2 and height and width and array.shape[1] == height * width * channels:
        if channels > 1 and not planar:
            raise DatasetCorrupt(
                f"{where} is {array.shape}, rows whose {channels} channels may lie one after the other or be "
                f"interleaved: save it as (N, {height}, {width}, {channels})"
            )
        rows = array.reshape(-1, channels, height, width)
        return np.moveaxis(_levels(rows, where), 1, -1)
    if array.ndim == 3:
        array = array[..., None]
    elif array.ndim == 4 and array.shape[3] != channels and array.shape[1] == channels:
        array = np.moveaxis(array, 1, -1)
    if array.ndim != 4:
        sides = "×".join("any" if side is None else str(side) for side in shape)
        raise DatasetCorrupt(
            f"{where} must be uint8 images (N, H, W[, C]) of {sides}, or rows of as many pixels, not {array.dtype} "
            f"{array.shape}"
        )
    return _levels(array, where)


def _levels(array: np.ndarray, where: str) -> np.ndarray:
    """Pixels as bytes, converted by whole images so that little memory is needed."""
    if array.dtype.kind not in "buif":
        raise DatasetCorrupt(f"{where} must be uint8 images, not {array.dtype}")
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if not array.size:
        return array.astype(np.uint8)
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 255):
        raise DatasetCorrupt(
            f"{where} holds values from {low:.4g} to {high:.4g}, where pixels lie in 0..255 (or are k/255 in 0..1): "
            "save the images as uint8, before any normalisation"
        )
    parts = [array[start : start + _ROWS] for start in range(0, len(array), _ROWS)]
    whole = array.dtype.kind != "f" or all((part == np.rint(part)).all() for part in parts)
    if whole and high == 1:
        raise DatasetCorrupt(
            f"{where} holds only 0 and 1, which may be black and white or the two darkest of 256 levels: "
            "save the images as uint8 0..255, or as booleans for black and white"
        )
    if array.dtype == np.uint8:
        return array
    scale = 1.0 if whole or high > 1 else 255.0
    tolerance = 0.0 if scale == 1 else 255 * float(np.finfo(array.dtype).eps)
    result = np.empty(array.shape, np.uint8)
    for row, part in zip(range(0, len(array), _ROWS), parts, strict=True):
        scaled = part.astype(np.float64) * scale
        levels = np.rint(scaled)
        if not (np.abs(scaled - levels) <= tolerance).all():
            raise DatasetCorrupt(
                f"{where} holds values that are neither whole in 0..255 nor k/255 in 0..1: save the images as uint8"
            )
        result[row : row + _ROWS] = levels
    return result


def labels(array: np.ndarray, count: int, where: str) -> np.ndarray:
    """One label an image: integers, or strings where they name the classes.

    Taken are (N,), a column (N, 1), a row (1, N), one-hot rows (N, K), whole floating-point numbers, digits as text.

    Args:
        array: the labels as stored.
        count: the number of images.
        where: what they are called, for messages.

    Raises:
        DatasetCorrupt: if they can mean several things, or there are more or fewer than images.
    """
    if array.shape in ((count, 1), (1, count)):
        array = array.reshape(-1)
    if array.ndim == 2 and array.dtype.kind in "buif":
        array = _positions(array, where)
    if array.shape != (count,):
        raise DatasetCorrupt(f"{where} must hold one label for each of {count} images, not {array.dtype} {array.shape}")
    if array.dtype.kind in "SU":
        return _numbers_or_names(array, where)
    if array.dtype.kind not in "buif":
        raise DatasetCorrupt(f"{where} must hold integer labels or class names, not {array.dtype}")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        raise DatasetCorrupt(f"{where} holds labels that are no whole numbers")
    if count and not 0 <= array.min() <= array.max() < _MOST_CLASSES:
        raise DatasetCorrupt(
            f"{where} holds labels from {array.min():.0f} to {array.max():.0f}: number the classes 0, 1, 2, … "
            "(leave out images without a label)"
        )
    return array.astype(np.int64)


def names(array: np.ndarray, where: str) -> tuple[str, ...]:
    """Class names as text, also where they are stored as bytes.

    Raises:
        DatasetCorrupt: if they are neither text nor numbers, one a class.
    """
    if array.ndim != 1 or array.dtype.kind not in "SUiu":
        raise DatasetCorrupt(f"{where} must hold one name for each class, not {array.dtype} {array.shape}")
    return tuple(_text(array, where).tolist())


def number(
    parts: dict[str, np.ndarray], given: tuple[str, ...] | None, known: tuple[str, ...] | None, where: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None, str]:
    """Labels counted from 0, from labels as `labels` gives them.

    Args:
        parts: the labels of each split.
        given: class names that the source gives.
        known: class names of the set, where it is a known one.
        where: what they are called, for messages.

    Returns:
        The labels of each split, the class names (None: numbers), and what was done that should be known, or "".

    Raises:
        DatasetCorrupt: if labels name an unknown class, or it is not clear whether they are counted from 0 or 1.
    """
    named = given or known
    if any(part.dtype.kind == "U" for part in parts.values()):
        named = named or tuple(sorted({name for part in parts.values() for name in part.astype(str).tolist()}))
        position = {name: label for label, name in enumerate(named)}
        unknown = sorted({name for part in parts.values() for name in part.astype(str).tolist()} - set(position))
        if unknown:
            raise DatasetCorrupt(
                f"{where} has labels {unknown[:3]}, which are none of the classes {list(named)[:3]}, …"
            )
        return {split: _looked_up(position, part) for split, part in parts.items()}, named, ""
    used = sorted({label for part in parts.values() for label in np.unique(part).tolist()})
    from_one = bool(used) and (
        used[0] == 1 and used[-1] == len(named) if named else used == list(range(1, len(used) + 1))
    )
    if not from_one:
        return parts, named, ""
    if named == tuple("0123456789"):
        raise DatasetCorrupt(
            f"{where} has digits labelled 1..10, of which 10 may be the digit 0 or the digit 9: label them 0..9"
        )
    note = f"labels 1..{used[-1]} of the source are stored as 0..{used[-1] - 1}"
    return {split: part - 1 for split, part in parts.items()}, named, note


def _positions(array: np.ndarray, where: str) -> np.ndarray:
    """The position of the one in each row."""
    if not (((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all()):
        raise DatasetCorrupt(f"{where} is {array.shape}, but its rows are not one-hot: save one label an image")
    return array.argmax(1)


def _numbers_or_names(array: np.ndarray, where: str) -> np.ndarray:
    """Digits as numbers, anything else as names."""
    text = _text(array, where)
    if len(text) and all(item.isascii() and item.isdecimal() and len(item) < 6 for item in text.tolist()):
        return text.astype(np.int64)
    return text


def _text(array: np.ndarray, where: str) -> np.ndarray:
    """Strings, decoded where they are bytes."""
    try:
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array.astype(str)
    except UnicodeDecodeError as error:
        raise DatasetCorrupt(f"{where} holds text that is not UTF-8 ({error}): save it as str") from error


def _looked_up(position: dict[str, int], part: np.ndarray) -> np.ndarray:
    """The position of each name."""
    return np.array([position[name] for name in part.astype(str).tolist()], np.int64)
