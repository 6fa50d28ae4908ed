"""The wire formats as pure functions: bytes in, arrays out, and back. No server, no state.

The Open Inference Protocol v2 with JSON or binary tensors on either side, the v1 protocol of TensorFlow Serving and
KServe, and `/invocations` of MLflow and SageMaker. What is not understood is refused, never guessed: extensions that
could carry anything but the defended posterior (classification, shared memory, other outputs) above all.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import orjson

from pp_jax._messages import one_line

HEADER = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON; the rest are binary tensors."""
_TYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype("uint8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_REQUEST_PARAMETERS = {"binary_data_output"}
_INPUT_PARAMETERS = {"binary_data_size"}
_OUTPUT_PARAMETERS = {"binary_data"}
_IGNORED = {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout"}


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


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that was understood.

    Attributes:
        images: (B, H, W, C), uint8 or floating point in [0, 1].
        id: the client's own, sent back.
        binary: whether the response's tensor is wanted as bytes.
    """

    images: np.ndarray
    id: str | None = None
    binary: bool = False


def parse_v2(body: bytes, header_length: str | None, model: Model) -> Request:
    """Read an inference request of the Open Inference Protocol v2.

    Args:
        body: JSON, or JSON followed by binary tensors.
        header_length: the header `Inference-Header-Content-Length`; None where the body is JSON alone.
        model: what it may be about.

    Raises:
        WireError: for anything that is not a request for the one output on images of the model's shape.
    """
    length = len(body)
    if header_length is not None:
        length = _length(header_length)
        if length is None:
            raise WireError(f"{HEADER} must be a whole number of bytes")
        if length > len(body):
            raise WireError(f"{HEADER} is {length}, but the body has {len(body)} bytes")
    content, rest = _json(body[:length]), memoryview(body)[length:]
    identity = content.get("id")
    if identity is not None and not isinstance(identity, str):
        raise WireError("id must be a text")
    parameters = _parameters(content, _REQUEST_PARAMETERS | _IGNORED, "the request")
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise WireError(f"inputs must be one tensor, {model.input!r}")
    array, used = _tensor(inputs[0], rest, model)
    if used != len(rest):
        raise WireError(f"{len(rest)} bytes follow the JSON, but {used} belong to the input")
    binary = _wants_binary(content, parameters, model)
    return Request(_images(array, model), identity, binary)


def parse_v1(body: bytes, model: Model) -> Request:
    """Read a v1 request, `{"instances": [...]}`: images as nested lists of numbers in [0, 1].

    Raises:
        WireError: for anything else.
    """
    content = _json(body)
    unknown = sorted(set(content) - {"instances", "signature_name"})
    if unknown or "instances" not in content:
        raise WireError(f'the body must be {{"instances": [images]}}, without {", ".join(unknown) or "anything else"}')
    return Request(_images(_nested(content["instances"], "instances", model), model))


def parse_invocations(body: bytes, model: Model) -> Request:
    """Read a request of MLflow and SageMaker, `{"instances": [...]}` or `{"inputs": [...]}`; see `parse_v1`.

    Raises:
        WireError: for anything else.
    """
    content = _json(body)
    found = [name for name in ("instances", "inputs") if name in content]
    if len(found) != 1 or set(content) - {found[0], "params"}:
        raise WireError('the body must be {"instances": [images]} or {"inputs": [images]}')
    return Request(_images(_nested(content[found[0]], found[0], model), model))


def render_v2(responses: np.ndarray, request: Request, model: Model) -> tuple[bytes, dict[str, str]]:
    """Write an inference response: body and headers.

    Args:
        responses: (B, K), float32.
        request: what was asked.
        model: what answers.
    """
    tensor: dict[str, Any] = {"name": model.output, "shape": list(responses.shape), "datatype": "FP32"}
    content: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        content["id"] = request.id
    values = np.ascontiguousarray(responses, "<f4")
    if not request.binary:
        tensor["data"] = values.reshape(-1)
        content["outputs"] = [tensor]
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), {"Content-Type": "application/json"}
    tensor["parameters"] = {"binary_data_size": values.nbytes}
    content["outputs"] = [tensor]
    head = orjson.dumps(content)
    headers = {"Content-Type": "application/octet-stream", HEADER: str(len(head))}
    return head + values.tobytes(), headers


def render_v1(responses: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """Write `{"predictions": [...]}`, for v1 and `/invocations`: body and headers."""
    content = {"predictions": np.ascontiguousarray(responses, "<f4")}
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), {"Content-Type": "application/json"}


def write_v2(images: np.ndarray, model: Model, *, binary: bool = True) -> tuple[bytes, dict[str, str]]:
    """Write an inference request, as a client or a proxy sends it: body and headers; the inverse of `parse_v2`."""
    values = np.ascontiguousarray(images)
    if values.dtype not in _NAMES:
        values = values.astype("<f4")
    tensor: dict[str, Any] = {
        "name": model.input,
        "shape": list(values.shape),
        "datatype": _NAMES[values.dtype.newbyteorder("<") if values.dtype.itemsize > 1 else values.dtype],
    }
    output = {"name": model.output, "parameters": {"binary_data": binary}}
    content: dict[str, Any] = {"inputs": [tensor], "outputs": [output]}
    if not binary:
        tensor["data"] = values.reshape(-1)
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), {"Content-Type": "application/json"}
    tensor["parameters"] = {"binary_data_size": values.nbytes}
    head = orjson.dumps(content)
    return head + values.tobytes(), {"Content-Type": "application/octet-stream", HEADER: str(len(head))}


def read_v2(body: bytes, header_length: str | None, model: Model, rows: int) -> np.ndarray:
    """Read an inference response, as a client or a proxy gets it: (rows, K) float32; the inverse of `render_v2`.

    Raises:
        WireError: for anything but one finite tensor of that shape under the model's output name.
    """
    length = len(body)
    if header_length is not None:
        length = _length(header_length)
        if length is None or length > len(body):
            raise WireError(f"the response's {HEADER} does not fit its body", 502)
    try:
        content = _json(body[:length])
    except WireError as error:
        raise WireError(f"the response is no JSON object: {error}", 502) from error
    outputs = content["outputs"] if isinstance(content.get("outputs"), list) else []
    tensors = [tensor for tensor in outputs if isinstance(tensor, dict)]
    named = [tensor for tensor in tensors if tensor.get("name") == model.output]
    if len(named) != 1:
        raise WireError(f"the response must have one output {model.output!r}", 502)
    tensor, wanted = named[0], (rows, model.classes)
    dtype = _TYPES.get(str(tensor.get("datatype")))
    if dtype is None or dtype.kind != "f" or tensor.get("shape") != list(wanted):
        raise WireError(f"the response's output must be floating point of shape {wanted}", 502)
    # Servers may send outputs that nobody asked for: the bytes follow in the order of the tensors.
    sizes = [_binary_size(t) for t in tensors]
    place = next(index for index, t in enumerate(tensors) if t is tensor)
    try:
        if sizes[place] is None:
            values = _numbers(tensor.get("data"), dtype)
        elif sizes[place] == math.prod(wanted) * dtype.itemsize and sum(s or 0 for s in sizes) == len(body) - length:
            start = length + sum(s or 0 for s in sizes[:place])
            values = np.frombuffer(body, dtype, math.prod(wanted), start)
        else:
            raise WireError("the response's binary tensor has another length than its shape", 502)
        values = values.reshape(wanted).astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"the response's numbers cannot be read: {error}", 502) from error
    if not np.isfinite(values).all():
        raise WireError("the response holds numbers that are not finite", 502)
    return values


def _length(header: str) -> int | None:
    """The bytes that the header of lengths says are JSON; None where it is no such number."""
    return int(header) if header.isascii() and header.isdigit() and len(header) <= 18 else None


def _binary_size(tensor: dict[str, Any]) -> int | None:
    """Bytes of a response's tensor after the JSON; None where its data are in the JSON."""
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    return size if type(size) is int and size >= 0 else None


def _json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError(f"the body is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise WireError("the body must be a JSON object")
    return content


def _parameters(holder: dict[str, Any], known: set[str], what: str) -> dict[str, Any]:
    """The parameters of a request or tensor, refused where one is unknown."""
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise WireError(f"the parameters of {what} must be an object")
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise WireError(f"{unknown[0][:60]!r} of {what} is not offered: allowed are {', '.join(sorted(known))}")
    return parameters


def _tensor(tensor: dict[str, Any], rest: memoryview, model: Model) -> tuple[np.ndarray, int]:
    """An input tensor, and how many bytes it took."""
    if tensor.get("name") != model.input:
        raise WireError(f"the input must be named {model.input!r}")
    dtype = _TYPES.get(str(tensor.get("datatype")))
    if dtype is None:
        raise WireError(f"datatype must be one of {', '.join(_TYPES)}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise WireError("shape must be a list of whole numbers")
    # Decided before anything of that size exists.
    _check_shape(tuple(shape), model)
    count = math.prod(shape)
    size = _parameters(tensor, _INPUT_PARAMETERS, "the input").get("binary_data_size")
    if size is None:
        values = _numbers(tensor.get("data"), dtype)
        if values.size != count:
            raise WireError(f"data holds {values.size} numbers, but shape {shape} needs {count}")
        return values.reshape(shape), 0
    if "data" in tensor:
        raise WireError("the input has both data and binary_data_size")
    if type(size) is not int or size != count * dtype.itemsize or size > len(rest):
        raise WireError(f"binary_data_size must be {count * dtype.itemsize}, and that many bytes must follow the JSON")
    return np.frombuffer(rest[:size], dtype).reshape(shape), size


def _wants_binary(content: dict[str, Any], parameters: dict[str, Any], model: Model) -> bool:
    """Whether the output is wanted as bytes; refuses any other output than the one."""
    everything = parameters.get("binary_data_output", False)
    outputs = content.get("outputs")
    if outputs is None:
        return everything is True
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        raise WireError(f"outputs must be one tensor, {model.output!r}")
    if outputs[0].get("name") != model.output:
        raise WireError(f"there is no output but {model.output!r}")
    own = _parameters(outputs[0], _OUTPUT_PARAMETERS, "the output")
    return own.get("binary_data", everything) is True


def _nested(values: Any, what: str, model: Model) -> np.ndarray:
    """Images as nested lists, (B, H, W, C)."""
    if not isinstance(values, list):
        raise WireError(f"{what} must be a list of images {model.image_shape}")
    if len(values) > model.most:
        raise WireError(f"{what} holds {len(values)} images: at most {model.most} in one request", 413)
    return _numbers(values, np.dtype("<f4"))


def _numbers(values: Any, dtype: np.dtype[Any]) -> np.ndarray:
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


def _check_shape(shape: tuple[int, ...], model: Model) -> None:
    """Refuse what is not (B, H, W, C) with 1 ≤ B ≤ most."""
    if len(shape) != 4 or shape[1:] != model.image_shape or shape[0] < 1:
        raise WireError(f"images must have shape (B, {', '.join(map(str, model.image_shape))}) with B ≥ 1, not {shape}")
    if shape[0] > model.most:
        raise WireError(f"{shape[0]} images: at most {model.most} in one request", 413)


def _images(array: np.ndarray, model: Model) -> np.ndarray:
    """Images of the model's shape, refused where a pixel is out of range."""
    _check_shape(array.shape, model)
    if array.dtype == np.uint8:
        return array
    array = array.astype(np.float32)
    if not bool(((array >= 0) & (array <= 1)).all()):
        raise WireError("floating-point pixels must be in [0, 1] (UINT8 ones from 0 to 255)")
    return array
