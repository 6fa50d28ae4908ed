"""A client's or proxy's side: requests written, responses read."""

import math
from typing import Any

import numpy as np
import orjson

from pp_jax.serving.wire.tensors import HEADER, TYPES, Model, WireError, json_length, json_object, numbers

_NAMES = {dtype: name for name, dtype in TYPES.items()}


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
    length = json_length(body, header_length)
    if length is None:
        raise WireError(f"the response's {HEADER} does not fit its body", 502)
    try:
        content = json_object(body[:length])
    except WireError as error:
        raise WireError(f"the response is no JSON object: {error}", 502) from error
    outputs = content["outputs"] if isinstance(content.get("outputs"), list) else []
    tensors = [tensor for tensor in outputs if isinstance(tensor, dict)]
    named = [tensor for tensor in tensors if tensor.get("name") == model.output]
    if len(named) != 1:
        raise WireError(f"the response must have one output {model.output!r}", 502)
    tensor, wanted = named[0], (rows, model.classes)
    dtype = TYPES.get(str(tensor.get("datatype")))
    if dtype is None or dtype.kind != "f" or tensor.get("shape") != list(wanted):
        raise WireError(f"the response's output must be floating point of shape {wanted}", 502)
    # Servers may send outputs that nobody asked for: the bytes follow in the order of the tensors.
    sizes = [_binary_size(t) for t in tensors]
    place = next(index for index, t in enumerate(tensors) if t is tensor)
    try:
        if sizes[place] is None:
            values = numbers(tensor.get("data"), dtype)
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


def _binary_size(tensor: dict[str, Any]) -> int | None:
    """Bytes of a response's tensor after the JSON; None where its data are in the JSON."""
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    return size if type(size) is int and size >= 0 else None
