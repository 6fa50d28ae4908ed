"""What comes back from a prediction API, looked at before anything is built on it."""

from __future__ import annotations

from typing import Any

import numpy as np

_ROUNDING = 1e-3


class PartlyAnswered(Exception):
    """An API has answered only the first images of a batch, and then failed: raise it to have these responses kept.

    Args:
        answers: the responses, (b, K), to the first b images.
        reason: why there are no more.
    """

    def __init__(self, answers: Any, reason: str):
        super().__init__(reason)
        self.answers = answers


def checked(answers: Any, count: int, like: np.ndarray | None = None) -> np.ndarray:
    """The responses of an API to so many images, as an array on the host; their values are looked at too.

    Posteriors may be truncated, so that they sum to less than one; class indices may be a column, which becomes (B,).

    Args:
        answers: what the API returned: (B, K) numbers in [0, 1], or (B,) class indices; lists will do.
        count: B.
        like: earlier responses of the same API.

    Returns:
        (B, K), or (B,) whole numbers.

    Raises:
        ValueError: naming what was returned, and what it must be.
    """
    found = shaped(answers, count, like)
    if _is_float(found):
        _check_values(found.astype(np.float64))
    return found


def shaped(answers: Any, count: int, like: np.ndarray | None = None) -> np.ndarray:
    """The responses of an API to so many images by shape and type alone; arguments, returns and errors as `checked`."""
    if answers is None:
        raise ValueError("the API answered None: must be an array of shape (B, K), a row an image")
    try:
        found = np.asarray(answers)
    except ValueError as error:
        raise ValueError(f"the API must answer rows of one length: {error}") from error
    if found.ndim == 0 or not (_is_float(found) or np.issubdtype(found.dtype, np.integer)):
        raise ValueError(f"the API answered {found.dtype} of shape {found.shape}: must be numbers, (B, K)")
    if len(found) != count:
        raise ValueError(f"the API must answer every image: {count} asked, {len(found)} answered")
    if not _is_float(found) and found.shape == (count, 1):
        found = found[:, 0]
    if found.ndim != 2 and (found.ndim != 1 or _is_float(found)):
        raise ValueError(
            f"the API answered {found.dtype} of shape {found.shape}: must be (B, K), or (B,) class indices"
        )
    if like is not None and found.shape[1:] != like.shape[1:]:
        raise ValueError(f"the API answered rows of shape {found.shape[1:]}: must be {like.shape[1:]} as before")
    if _is_float(found) and not hasattr(answers, "dtype"):  # lists have no precision of their own
        found = found.astype(np.float32)
    return found


def _is_float(array: np.ndarray) -> bool:
    """Whether an array is of floating point, bfloat16 included."""
    import jax.numpy as jnp

    return bool(jnp.issubdtype(array.dtype, jnp.floating))


def _check_values(rows: np.ndarray) -> None:
    """Refuse what is no probability."""
    if broken := int((~np.isfinite(rows)).any(axis=1).sum()):
        raise ValueError(f"the API's answers must be finite: {broken} of {len(rows)} rows are not")
    low, high = rows.min(initial=0), rows.max(initial=0)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(
            f"the API's answers must be probabilities in [0, 1], not in [{low:.4g}, {high:.4g}]: logits need a "
            "softmax, percent a division by 100"
        )
