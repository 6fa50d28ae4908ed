"""Images: (B, H, W, C), uint8 or floating point in [0, 1]."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks.arrays import as_array, is_hidden, is_whole, seen, span

# So many images are looked at together: a mask of all would take as much memory as they do.
_ROWS = 1000
_CURE = "write images / 255 for pixels up to 255, and leave mean and standard deviation to the network"


def as_images(images: Any, name: str = "images") -> Any:
    """Images as they are, and nested lists of them as an array; refused by shape or dtype, whatever their values.

    Raises:
        ValueError: naming shape or dtype.
    """
    array = as_array(images, name, lazy=True)
    if isinstance(images, list | tuple):
        array = _bytes(array)
    if len(array.shape) != 4 or len(array) == 0:
        cure = (
            "; write images[..., None] for grey images, image[None] for a single one" if len(array.shape) == 3 else ""
        )
        raise ValueError(f"{name} must have shape (B, H, W, C) with B ≥ 1, not {array.shape}{cure}")
    if array.dtype != np.uint8 and not jnp.issubdtype(array.dtype, np.floating):
        cure = f"write {name}.astype(np.uint8) for pixels up to 255, {name}.astype(np.float32) for 0 and 1"
        raise ValueError(f"{name} must be uint8 or floating point in [0, 1], not {array.dtype}; {cure}")
    return array


def as_pixels(images: Any, name: str = "images") -> Any:
    """As `as_images`, and refused for values out of range where they can be seen.

    Raises:
        ValueError: naming shape, dtype, or how many images are out of range.
    """
    array = as_images(images, name)
    _check_range(array, name)
    return array


def as_inputs(inputs: Any, name: str = "images") -> Any:
    """What a network is trained on or asked about: images as `as_pixels`, or finite arrays of another rank.

    Raises:
        ValueError: naming shape, dtype, or how many rows are out of range.
    """
    array = as_array(inputs, name, lazy=True)
    if len(array.shape) == 4:
        array = as_images(inputs, name)
    if len(array.shape) == 0 or len(array) == 0:
        raise ValueError(f"{name} must be at least one, not {array.shape}")
    if len(array.shape) == 4:
        _check_range(array, name)
    else:
        check_finite(array, name)
    return array


def check_finite(array: Any, name: str) -> None:
    """Refuse rows with a NaN or an infinity.

    Raises:
        ValueError: naming how many.
    """
    values = None if is_whole(array.dtype) else seen(array)
    if values is not None and not (finite := np.isfinite(values)).all():
        bad = int((~finite.reshape(len(values), -1).all(axis=1)).sum())
        raise ValueError(f"{name} must be finite: {bad} of {len(values)} rows hold NaN or infinity; leave them out")


def images_outside(images: jax.Array) -> jax.Array:
    """The number of floating-point images with a pixel that is not in [0, 1] (NaN included), int32."""
    if images.dtype == jnp.uint8:
        return jnp.zeros((), jnp.int32)
    inside = (images >= 0) & (images <= 1)
    return jnp.sum(~inside.all(axis=(1, 2, 3)))


def report_outside(outside: int, rows: int, *, name: str = "images", found: str = "") -> None:
    """Raise if any of so many images is out of range.

    Raises:
        ValueError: naming both numbers.
    """
    if outside:
        raise ValueError(f"floating-point {name} must be in [0, 1]: {outside} of {rows} are not{found}; {_CURE}")


def _check_range(images: Any, name: str) -> None:
    """Refuse pixels out of range: on the host by NumPy, on an accelerator where the images are."""
    if images.dtype == np.uint8:
        return
    if is_hidden(images):
        return
    if isinstance(images, jax.Array) and _is_far(images):
        report_outside(int(_counted(images)), len(images), name=name)
        return
    outside, low, high, broken = 0, np.inf, -np.inf, False
    host = np.asarray(images) if isinstance(images, jax.Array) else images
    for first in range(0, len(host), _ROWS):
        part = np.asarray(host[first : first + _ROWS])
        least, most = part.min(), part.max()
        if least >= 0 and most <= 1:  # false for NaN
            continue
        outside += int((~((part >= 0) & (part <= 1))).any(axis=(1, 2, 3)).sum())
        broken |= not np.isfinite(part).all()
        finite = part[np.isfinite(part)].astype(np.float64)
        low, high = min(low, finite.min(initial=np.inf)), max(high, finite.max(initial=-np.inf))
    if outside:
        reach = span(np.array([low, high])) if high >= low else "without a finite value"
        report_outside(
            outside, len(host), name=name, found=f" ({'with NaN or infinity, the rest ' if broken else ''}{reach})"
        )


def _is_far(images: jax.Array) -> bool:
    """Whether images lie in the memory of an accelerator."""
    return any(device.platform != "cpu" for device in images.devices())


_counted = jax.jit(images_outside)


def _bytes(array: Any) -> Any:
    """Whole numbers of a nested list as uint8, where they can be nothing else: what `tolist` made of such images."""
    if not jnp.issubdtype(array.dtype, np.integer) or array.size == 0 or array.dtype == np.uint8:
        return array
    return array.astype(np.uint8) if array.min() >= 0 and 1 < array.max() <= 255 else array
