"""DeepFool: the distance to the boundary where it is known, the published steps where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax.attacks.deepfool import margins
from support import linear_logits, linear_params

SIDE, K = 3, 4
RNG = np.random.default_rng(0)
IMAGES = RNG.random((23, SIDE, SIDE, 1), np.float32)
PARAMS = linear_params(jax.random.key(0), SIDE * SIDE, K)


def _closed_form(images, kernel):
    """The L2 distance of each image to the nearest boundary of a linear network without bias."""
    scores, norms = images.reshape(len(images), -1) @ kernel, []
    for row in scores:
        c = row.argmax()
        others = [k for k in range(K) if k != c]
        norms.append(min((row[c] - row[k]) / np.linalg.norm(kernel[:, c] - kernel[:, k]) for k in others))
    return np.array(norms)


@pytest.mark.parametrize("batch_size", [5, 100])
def test_for_a_linear_network_it_is_the_distance_to_the_boundary_and_the_overshoot(batch_size):
    kernel = np.asarray(PARAMS["params"]["kernel"], np.float64)
    found = margins(linear_logits, PARAMS, IMAGES, batch_size=batch_size)
    np.testing.assert_allclose(found, 1.02 * _closed_form(IMAGES, kernel), rtol=2e-4, atol=1e-5)


def test_pixels_of_one_byte_count_in_255ths():
    images = (255 * IMAGES).astype(np.uint8)
    found = margins(linear_logits, PARAMS, images, batch_size=100)
    np.testing.assert_allclose(found, margins(linear_logits, PARAMS, images.astype(np.float32) / 255), rtol=1e-4)


def bent(params, image):
    """Logits with a curvature of their own: z_k = a_k·x + b_k ‖x‖²."""
    x = image.ravel()
    return params["a"].T @ x + params["b"] * (x @ x)


def test_for_a_bent_boundary_it_takes_the_published_steps():
    a, b = RNG.normal(size=(SIDE * SIDE, K)), 0.5 * RNG.normal(size=K)
    params = {"a": jnp.asarray(a, jnp.float32), "b": jnp.asarray(b, jnp.float32)}
    expected = []
    for image in IMAGES[:12].astype(np.float64):
        x, moved = image.ravel(), np.zeros(SIDE * SIDE)
        c = (a.T @ x + b * (x @ x)).argmax()
        for _ in range(50):
            at = x + 1.02 * moved
            z, slopes = a.T @ at + b * (at @ at), a + 2 * np.outer(at, b)
            if z.argmax() != c:
                break
            steps = {k: (abs(z[k] - z[c]), slopes[:, k] - slopes[:, c]) for k in range(K) if k != c}
            gap, normal = min(steps.values(), key=lambda step: step[0] / np.linalg.norm(step[1]))
            moved = moved + (gap + 1e-6) / (normal @ normal) * normal
        expected.append(1.02 * np.linalg.norm(moved))
    np.testing.assert_allclose(margins(bent, params, IMAGES[:12]), expected, rtol=1e-3)


def constant(params, image):
    """Logits that no image changes."""
    return params["b"] + 0 * image.sum()


def test_what_no_step_moves_across_a_boundary_is_infinitely_far():
    assert np.isinf(margins(constant, {"b": jnp.array([1.0, 0, 0])}, IMAGES[:2])).all()


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, not 0"):
        margins(linear_logits, PARAMS, IMAGES, steps=0)
