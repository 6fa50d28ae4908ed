"""Two-layer ReLU networks and their APIs in plain NumPy, in float64."""

import numpy as np

from pp_jax.attacks.structural import TwoLayer


def network(seed, inputs, hidden, outputs):
    """Random weights; every unit's hyperplane cuts through the middle of [0, 1]^d."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(hidden, inputs))
    offsets = -(weights * rng.uniform(0.2, 0.8, (hidden, inputs))).sum(1)
    return TwoLayer(weights, offsets, rng.normal(size=(outputs, hidden)), rng.normal(size=outputs))


def softmax(logits):
    """Posteriors."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def centred(outputs):
    """Outputs up to what softmax ignores."""
    return outputs - outputs.mean(1, keepdims=True)


class API:
    """Responds f(x), and counts inputs."""

    def __init__(self, respond):
        self.respond, self.queries = respond, 0

    def __call__(self, inputs):
        assert inputs.dtype == np.float64
        assert inputs.min() >= 0
        assert inputs.max() <= 1
        self.queries += len(inputs)
        return self.respond(inputs)


def posteriors(true):
    """The API of a network's posteriors."""
    return API(lambda inputs: softmax(true(inputs)))


def explanations(true, dtype=np.float64):
    """The API of a network's logits and input gradients."""

    def respond(inputs):
        active = inputs @ true.weights.T + true.offsets > 0
        gradients = np.einsum("bh,kh,hd->bkd", active, true.output, true.weights, optimize=True)
        return true(inputs).astype(dtype), gradients.astype(dtype)

    return API(respond)
