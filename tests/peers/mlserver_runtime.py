"""A classifier of digits as a runtime of MLServer, in MLServer's environment."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Digits(MLModel):
    """Answers with `scores`, and unasked with the logits, which a defense must not let through."""

    async def load(self):
        """Read the weights."""
        self.weights = np.load(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        """Posteriors of images (B, 1, 8, 8), UINT8."""
        tensor = payload.inputs[0]
        if tensor.name != "pixels" or tensor.datatype != "UINT8" or tensor.shape[1:] != [1, 8, 8]:
            raise ValueError(f"pixels of UINT8 are needed, not {tensor.name} of {tensor.datatype}, {tensor.shape}")
        x = NumpyCodec.decode_input(tensor).reshape(-1, 64).astype(np.float32) / 255
        logits = x @ self.weights[:-1] + self.weights[-1]
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        outputs = [NumpyCodec.encode_output(name, values) for name, values in (("logits", logits), ("scores", scores))]
        return InferenceResponse(model_name=self.name, outputs=outputs)
