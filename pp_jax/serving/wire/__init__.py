"""The wire formats as pure functions: bytes in, arrays out, and back. No server, no state.

The Open Inference Protocol v2 with JSON or binary tensors on either side, the v1 protocol of TensorFlow Serving and
KServe, and `/invocations` of MLflow and SageMaker. What is not understood is refused, never guessed: extensions that
could carry anything but the defended posterior (classification, shared memory, other outputs) above all.
"""

from pp_jax.serving.wire.client import read_v2, write_v2
from pp_jax.serving.wire.server import Request, parse_invocations, parse_v1, parse_v2, render_v1, render_v2
from pp_jax.serving.wire.tensors import HEADER, Model, WireError

__all__ = [
    "HEADER",
    "Model",
    "Request",
    "WireError",
    "parse_invocations",
    "parse_v1",
    "parse_v2",
    "read_v2",
    "render_v1",
    "render_v2",
    "write_v2",
]
