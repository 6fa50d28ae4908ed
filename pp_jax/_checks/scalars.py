"""Numbers: parameters in a range, counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_range(name: str, value: jax.Array | float, *, low: float, high: float, open_low: bool = False) -> None:
    """Refuse a parameter outside [low, high], or (low, high]; one that is being traced cannot be seen and passes.

    Raises:
        ValueError: naming parameter, value and range.
    """
    upper = "" if high == float("inf") else f" and at most {high:.4g}"
    needed = f"{name} must be {'above' if open_low else 'at least'} {low:g}{upper}"
    if value is None or isinstance(value, str | bytes):
        raise ValueError(f"{needed}, not {value!r}; write a number")
    # A plain number must not wake a device: values are made where modules are imported.
    numbers: Any = jnp if isinstance(value, jax.Array) else np
    try:
        smallest, largest = float(numbers.min(value)), float(numbers.max(value))
    except (jax.errors.ConcretizationTypeError, TypeError):
        return
    fits = (smallest > low if open_low else smallest >= low) and largest <= high
    if not fits:
        raise ValueError(f"{needed}, not {largest if largest > high else smallest:g}")


def check_count(name: str, value: Any, *, low: int) -> None:
    """Refuse a whole-number parameter below `low`; those of NumPy count as whole numbers, truth values do not.

    Raises:
        ValueError: naming parameter, value and requirement.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, not {value!r}")
