"""T3A: predictions against a slow NumPy version, what it is for, and what it refuses."""

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from pp_jax.training import t3a
from support import Linear, linear_logits, linear_params


class Plane(Linear):
    """Its features are the pixels; its last layer is all of it."""

    def features(self, params, image):
        return image.ravel()

    def __call__(self, params, image):
        return linear_logits(params, image)


NETWORK = Plane(3)
PARAMS = linear_params(jax.random.key(1), 4, 3)


def reference(params, images, kept):
    """One class after the other, 64 images at a time."""
    kernel, bias = (np.asarray(params["params"][name], float) for name in ("kernel", "bias"))

    def doubt(z):
        logs = log_softmax(z)
        return -(np.exp(logs) * logs).sum()

    supports = {
        k: [(doubt(kernel[:, k] @ kernel + bias), kernel[:, k] / np.linalg.norm(kernel[:, k]))] for k in range(3)
    }
    found = []
    for first in range(0, len(images), 64):
        rows = images[first : first + 64].reshape(-1, 4).astype(float)
        for row in rows:
            z = row @ kernel + bias
            supports[int(z.argmax())].append((doubt(z), row / np.linalg.norm(row)))
        for k in supports:
            supports[k] = sorted(supports[k], key=lambda item: item[0])[:kept]
        centres = np.stack([np.sum([s for _, s in supports[k]], axis=0) for k in range(3)])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        found.append(softmax(rows @ centres.T, axis=1))
    return np.concatenate(found)


@pytest.mark.parametrize("kept", [1, 5, 1000])
def test_predictions_are_those_of_a_slow_version(kept):
    images = np.random.default_rng(0).random((150, 2, 2, 1)).astype(np.float32)
    np.testing.assert_allclose(t3a(NETWORK, PARAMS, images, kept=kept), reference(PARAMS, images, kept), atol=1e-5)


def test_a_head_that_is_off_for_these_images_is_put_right():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 400)
    directions = np.float32([[1, 0, 0, 0.42], [0, 1, 0, 0.42], [0, 0, 1, 0.42]])
    images = np.clip(0.8 * directions[labels] + 0.1 * rng.random((400, 4)), 0, 1).astype(np.float32)
    kernel = np.float32([[3, 0, 0], [0, 3, 0], [0, 0, 3], [6, 0, 0]])  # one pixel speaks for the first class alone
    params = {"params": {"kernel": kernel, "bias": np.zeros(3, np.float32)}}
    images = images.reshape(-1, 2, 2, 1)
    head = np.mean(np.argmax(images.reshape(-1, 4) @ kernel, axis=1) == labels)
    assert np.mean(t3a(NETWORK, params, images).argmax(axis=1) == labels) > head + 0.2


def test_networks_without_a_known_head_are_refused():
    images = np.zeros((2, 2, 2, 1), np.float32)
    with pytest.raises(ValueError, match="has no features"):
        t3a(Linear(3), PARAMS, images)
    twice = {"params": {**PARAMS["params"], "other": PARAMS["params"]["kernel"]}}
    with pytest.raises(ValueError, match="have 2 kernels of shape"):
        t3a(NETWORK, twice, images)
    with pytest.raises(ValueError, match="kept must be a whole number"):
        t3a(NETWORK, PARAMS, images, kept=0)
