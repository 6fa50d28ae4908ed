"""What both sides of a wire format share: names, types, numbers, and the error that refuses."""

import dataclasses
from typing import Any

import numpy as np
import orjson

from pp_jax._messages import one_line

HEADER = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON; the rest are binary tensors."""
TYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype("uint8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}


class WireError(ValueError):
    """A request that is refused, with the HTTP status that says why."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(one_line(message))
        self.status = status


@dataclasses.dataclass(frozen=True)
class Model:
    """What a request may be about.

    Attributes:
        name: of the model.
        image_shape: (H, W, C).
        classes: K.
        input: name of the input tensor.
        output: name of the output tensor, the only one there is.
        most: images in one request, at most.
        version: of the model.
    """

    name: str
    image_shape: tuple[int, int, int]
    classes: int
    input: str = "image"
    output: str = "posterior"
    most: int = 1024
    version: str = "1"


def json_length(body: bytes, header: str | None) -> int | None:
    """How many bytes of a body are JSON: as the header of lengths says, all without one; None where it is wrong."""
    if header is None:
        return len(body)
    is_number = header.isascii() and header.isdigit() and len(header) <= 18
    return int(header) if is_number and int(header) <= len(body) else None


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError(f"the body is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise WireError("the body must be a JSON object")
    return content


def numbers(values: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Lists of numbers, nested or flat, as an array; no texts, booleans, holes or numbers out of range."""
    if not isinstance(values, list):
        raise WireError("data must be a list of numbers")
    try:
        array = np.array(values)
    except ValueError as error:
        raise WireError("data must be numbers, nested evenly") from error
    if array.dtype.kind not in "iuf":
        raise WireError("data must be numbers, nested evenly")
    if dtype.kind == "u" and (array.dtype.kind == "f" or (array.size and (array.min() < 0 or array.max() > 255))):
        raise WireError("data of datatype UINT8 must be whole numbers from 0 to 255")
    with np.errstate(over="ignore"):
        return array.astype(dtype)
