"""Grad-CAM: the formula by hand, through the layers of the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grids import grid
from pp_jax import models
from pp_jax.attacks.gradcam import attention, check_spatial, last_grid
from support import Linear

SHAPE = (6, 6, 1)
IMAGE = np.random.default_rng(0).random(SHAPE).astype(np.float32)
PARAMS = grid().init(jax.random.key(0), SHAPE)


def _by_hand(label):
    """Forward and backward of the small network, in NumPy."""
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), PARAMS["params"])
    padded = np.pad(IMAGE.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    conv = np.empty((6, 6, 3))
    for i in range(6):
        for j in range(6):
            window = padded[i : i + 3, j : j + 3, :]
            conv[i, j] = np.tensordot(window, weights["conv"]["kernel"], 3) + weights["conv"]["bias"]
    inner = np.maximum(conv, 0).ravel() @ weights["fc1"]["kernel"] + weights["fc1"]["bias"]
    gradient = weights["fc1"]["kernel"] @ (weights["fc2"]["kernel"][:, label] * (inner > 0))
    gradient = gradient.reshape(6, 6, 3) * (conv > 0)
    heat = np.maximum((gradient.mean(axis=(0, 1)) * conv).sum(axis=-1), 0)
    return heat / heat.sum() if heat.sum() > 0 else np.full((6, 6), 1 / 36)


ATTENTION = jax.jit(lambda params, label: attention(grid(), params, IMAGE, label))


@pytest.mark.parametrize("label", range(4))
def test_it_is_the_formula(label):
    np.testing.assert_allclose(ATTENTION(PARAMS, label), _by_hand(label), atol=1e-5)


def test_it_is_uniform_where_nothing_speaks_for_the_class():
    np.testing.assert_allclose(ATTENTION(jax.tree.map(jnp.zeros_like, PARAMS), 0), 1 / 36)


def test_a_coarser_grid_is_resized_to_the_image():
    network = models.lenet(4)
    image = np.random.default_rng(0).random((16, 16, 1)).astype(np.float32)
    params = jax.eval_shape(lambda key: network.init(key, (16, 16, 1)), jax.random.key(0))
    assert last_grid(network, params, image)[1] == (1, 2, 2, 50)
    found = jax.eval_shape(lambda params: attention(network, params, jnp.asarray(image), jnp.asarray(0)), params)
    assert found.shape == (16, 16)


@pytest.mark.parametrize(
    ("network", "message"), [(models.mlp(4), "a convolution, which MLP has not"), (Linear(4), "which Linear has not")]
)
def test_a_network_without_a_grid_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        check_spatial(network, IMAGE)
