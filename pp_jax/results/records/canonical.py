"""One form for equal configurations, and the hashes that are taken of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def key(config: Mapping[str, Any]) -> str:
    """The name of a configuration: the first 16 hexadecimal digits of the SHA-256 of its canonical JSON.

    Formal guarantees: the order of entries, tuple or list, 1 or 1.0, and NumPy or Python scalars make no difference.
    A float32 counts as its shortest decimal, so ``np.float32(.1)`` and ``.1`` are one configuration.

    Args:
      config: nested mappings, dataclasses, sequences, str, int, finite float, bool, None and NumPy scalars.

    Returns:
      Sixteen hexadecimal digits.

    Raises:
      ValueError: a value has no canonical JSON form.
    """
    return name(plain(config, "config"))


def plain(value: Any, where: str) -> Any:
    """The value in JSON's own types, or a `ValueError` that says where it cannot be."""
    if isinstance(value, np.floating) and not isinstance(value, float):
        value = float(np.format_float_scientific(value))
    elif isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: a record holds finite numbers only (None where there is no value)")
        return float(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if wrong := [name for name in value if not isinstance(name, str)]:
            raise ValueError(f"{where} has the key {wrong[0]!r}: keys must be strings")
        return {str(name): plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise ValueError(
        f"{where} is of type {type(value).__name__}: must be a mapping, dataclass, list, tuple, str, int, float, bool, "
        "None or NumPy scalar"
    )


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of a plain value, 64 hexadecimal digits."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def name(config: Mapping[str, Any]) -> str:
    """The `key` of a configuration that is plain already."""
    return digest(config)[:16]


def _canonical(value: Any) -> Any:
    """One form for equal numbers."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value
