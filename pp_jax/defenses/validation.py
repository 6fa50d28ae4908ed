"""Checks of defense parameters that are known when a defense is made."""

import jax
import jax.numpy as jnp


def check_range(name: str, value: jax.Array | float, *, low: float, high: float, open_low: bool = False) -> None:
    """Refuse a parameter outside [low, high], or (low, high]; one that is being traced cannot be seen and passes.

    Raises:
        ValueError: naming parameter, value and range.
    """
    try:
        smallest, largest = float(jnp.min(value)), float(jnp.max(value))
    except (jax.errors.ConcretizationTypeError, TypeError):
        return
    fits = (smallest > low if open_low else smallest >= low) and largest <= high
    if not fits:
        bad = largest if largest > high else smallest
        upper = "" if high == float("inf") else f" and at most {high:.4g}"
        raise ValueError(f"{name} must be {'above' if open_low else 'at least'} {low:g}{upper}, not {bad:g}")


def check_count(name: str, value: int, *, low: int) -> None:
    """Refuse a whole-number parameter below `low`.

    Raises:
        ValueError: naming parameter, value and requirement.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, not {value!r}")
