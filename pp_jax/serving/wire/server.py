"""A server's side: requests read, responses written. What is not understood is refused, never guessed."""

import dataclasses
import math
from typing import Any

import numpy as np
import orjson

from pp_jax.serving.wire.tensors import HEADER, TYPES, Model, WireError, json_length, json_object, numbers

_REQUEST_PARAMETERS = {"binary_data_output"}
_INPUT_PARAMETERS = {"binary_data_size"}
_OUTPUT_PARAMETERS = {"binary_data"}
_IGNORED = {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout"}


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
    length = json_length(body, header_length)
    if length is None:
        raise WireError(f"{HEADER} must be a whole number, at most the {len(body)} bytes of the body")
    content, rest = json_object(body[:length]), memoryview(body)[length:]
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
    content = json_object(body)
    unknown = sorted(set(content) - {"instances", "signature_name"})
    if unknown or "instances" not in content:
        raise WireError(f'the body must be {{"instances": [images]}}, without {", ".join(unknown) or "anything else"}')
    return Request(_images(_nested(content["instances"], "instances", model), model))


def parse_invocations(body: bytes, model: Model) -> Request:
    """Read a request of MLflow and SageMaker, `{"instances": [...]}` or `{"inputs": [...]}`; see `parse_v1`.

    Raises:
        WireError: for anything else.
    """
    content = json_object(body)
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
    dtype = TYPES.get(str(tensor.get("datatype")))
    if dtype is None:
        raise WireError(f"datatype must be one of {', '.join(TYPES)}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise WireError("shape must be a list of whole numbers")
    # Decided before anything of that size exists.
    _check_shape(tuple(shape), model)
    count = math.prod(shape)
    size = _parameters(tensor, _INPUT_PARAMETERS, "the input").get("binary_data_size")
    if size is None:
        values = numbers(tensor.get("data"), dtype)
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
    return numbers(values, np.dtype("<f4"))


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
