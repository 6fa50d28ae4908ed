"""Class indices: whole numbers from 0 to K − 1, one for each image."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from pp_jax._checks.arrays import as_array, is_text, is_whole, seen


def as_labels(
    labels: Any, *, shape: tuple[int, ...] | None = None, classes: int | None = None, name: str = "labels"
) -> Any:
    """Class indices as they are; a column of them without its axis, whole floating-point numbers and booleans as int32.

    Args:
        labels: array or list.
        shape: what they must have, such as (N,); any (N,) by default.
        classes: K; unknown by default, and then only negative ones are refused.
        name: how an error calls them.

    Returns:
        An array of `shape`, of whole numbers.

    Raises:
        ValueError: for text, another shape, numbers that are not whole, or out of range: with the range found, the
            range needed and what to write.
    """
    if is_text(labels):
        raise ValueError(
            f"{name} are text: must be whole numbers from 0; write np.unique({name}, return_inverse=True)[1]"
        )
    array = as_array(labels, name)
    own = np.shape(array)
    if own[-1:] == (1,) and len(own) == (2 if shape is None else len(shape) + 1) and is_whole(array.dtype):
        array = array.reshape(own[:-1])
    if np.ndim(array) != (1 if shape is None else len(shape)) or (shape is not None and array.shape != shape):
        wanted = "(N,)" if shape is None else f"{shape}"
        cure = f"; write {name}.argmax(axis=-1) for one-hots" if len(own) > (1 if shape is None else len(shape)) else ""
        raise ValueError(f"{name} have shape {own}: must be class indices of shape {wanted}{cure}")
    if jnp.issubdtype(array.dtype, np.bool_):
        array = array.astype(np.int32)
    values = seen(array)
    if values is None or values.size == 0:
        return array
    if jnp.issubdtype(array.dtype, np.floating):
        if not (whole := values == np.round(values)).all() or not np.isfinite(values).all():
            found = values[~(whole & np.isfinite(values))].reshape(-1)[0]
            raise ValueError(f"{name} hold {found:g}: must be whole numbers from 0; write {name}.astype(int)")
        array = values = values.astype(np.int32)
    _check_range(values, classes, name)
    return array


def _check_range(labels: np.ndarray, classes: int | None, name: str) -> None:
    """Refuse labels that are no class."""
    low, high = int(labels.min()), int(labels.max())
    if low >= 0 and (classes is None or high < classes):
        return
    last = "K − 1" if classes is None else f"{classes - 1}"
    if low < 0:
        cure = f"leave out what has no class, images[{name} >= 0] and {name}[{name} >= 0]"
    elif low == 1 and high == classes:
        cure = f"write {name} - 1"
    else:
        cure = f"the network must have {high + 1} outputs for these"
    raise ValueError(f"{name} are from {low} to {high}: must be from 0 to {last}, as labels start at 0; {cure}")
