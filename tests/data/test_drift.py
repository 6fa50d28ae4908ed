"""Drifts: range and shape of every one, and what each is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from pp_jax.data import drift


@pytest.fixture(scope="module")
def images():
    """Bright bars on black."""
    pictures = np.zeros((6, 16, 16, 1), np.uint8)
    pictures[:, 4:12, 7:9] = 255
    return pictures


@pytest.mark.parametrize("kind", drift.DRIFTS, ids=str)
def test_a_drift_keeps_shape_and_range_and_changes_the_image(kind, images):
    found = drift.drifted(jax.random.key(0), images, kind)
    assert (found.shape, found.dtype) == (images.shape, jnp.float32)
    assert bool(((found >= 0) & (found <= 1)).all())
    assert float(jnp.abs(found - images / np.float32(255)).max()) > 0.1


def test_blur_is_that_of_scipy(images):
    found = drift.drifted(jax.random.key(0), images, drift.Blurred(1.0))
    wanted = scipy.ndimage.gaussian_filter(images[0, ..., 0] / 255, 1.0, mode="constant", truncate=3)
    np.testing.assert_allclose(found[0, ..., 0], wanted, atol=1e-5)


def test_a_shift_moves_all_pixels_alike(images):
    found = np.asarray(drift.drifted(jax.random.key(0), images, drift.Shifted(2)))
    for image in found:
        moved = [np.roll(images[0] / 255, (a, b), (0, 1)) for a in (-2, 2) for b in (-2, 2)]
        assert min(np.abs(image - m).max() for m in moved) < 1e-6


def test_rotation_keeps_the_centre_and_turns_to_both_sides(images):
    found = np.asarray(drift.drifted(jax.random.key(0), images, drift.Rotated(15)))
    np.testing.assert_allclose(found[:, 7:9, 7:9].mean(axis=(1, 2, 3)), 1, atol=0.15)
    assert len({image.tobytes() for image in found}) == 2


def test_strokes_get_thicker_and_thinner(images):
    own = (images / 255).sum()
    assert drift.drifted(jax.random.key(0), images, drift.Thickened()).sum() > 1.2 * own
    assert drift.drifted(jax.random.key(0), images, drift.Thinned()).sum() < 0.8 * own
