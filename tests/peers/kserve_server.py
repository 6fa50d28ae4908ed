"""A classifier of digits on KServe's own server, in KServe's environment: WEIGHTS PORT."""

import sys

import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Digits(Model):
    """Answers with `scores`, and unasked with the logits, which a defense must not let through."""

    def __init__(self, weights):
        super().__init__("digits")
        self.weights, self.ready = np.load(weights), True

    async def predict(self, payload, headers=None, response_headers=None):
        """Posteriors of images (B, 8, 8, 1), FP32."""
        tensor = payload.inputs[0]
        if tensor.name != "pixels" or tensor.datatype != "FP32":
            raise ValueError(f"pixels of FP32 are needed, not {tensor.name} of {tensor.datatype}")
        x = tensor.as_numpy().reshape(-1, 64)
        logits = x @ self.weights[:-1] + self.weights[-1]
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        outputs = [InferOutput(name, list(logits.shape), "FP32") for name in ("logits", "scores")]
        for output, values in zip(outputs, (logits, scores), strict=True):
            output.set_data_from_numpy(values, binary_data=True)
        return InferResponse(response_id=payload.id or generate_uuid(), model_name=self.name, infer_outputs=outputs)


ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1).start([Digits(sys.argv[1])])
