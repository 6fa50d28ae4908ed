"""Images made to look like MNIST's: the box is 20 pixels, the mass in the middle."""

import numpy as np
import pytest

from pp_jax.data.reshaping import Centred, as_mnist


def box(image):
    rows, columns = np.nonzero(image[..., 0] > 25)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_shapes_are_shrunk_into_the_square_and_centred_by_mass():
    images = np.zeros((2, 28, 28, 1), np.uint8)
    images[0, :, 5:15] = 255  # tall: 28 × 10
    images[1, 2:6, 1:9] = 200  # small and in a corner
    images[1, 2:4, 1:3] = 100
    found = as_mnist(images)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert box(found[0]) == (20, 7)
    assert max(box(found[1])) == 20
    for image in found[..., 0].astype(float):
        centre = [(image.sum(axis=1 - axis) * np.arange(28)).sum() / image.sum() for axis in (0, 1)]
        np.testing.assert_allclose(centre, 13.5, atol=0.51)


def test_another_square_may_be_asked_for():
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[0, 4:24, 4:24] = 255
    assert box(as_mnist(image, inner=12)[0]) == (12, 12)


def test_an_image_without_anything_bright_stays_as_it_is():
    image = np.full((1, 28, 28, 1), 20, np.uint8)
    np.testing.assert_array_equal(as_mnist(image), image)


def test_a_shape_at_the_border_stays_within_the_image():
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[0, 0, 0] = 255
    image[0, 27, 0:28] = 30
    found = as_mnist(image)
    assert found.sum() > 0
    assert found.max() <= 255


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 1))]
)
def test_images_of_another_form_are_refused(images):
    with pytest.raises(ValueError, match=r"images must be \(N, H, W, 1\) uint8, not"):
        as_mnist(images)


def test_a_share_of_any_frame_is_filled_and_floats_stay_floats():
    image = np.zeros((1, 14, 14, 1), np.uint8)
    image[0, 2:4, 3:11] = 255
    found = Centred()(image)
    assert max(box(found[0])) == 10  # of 14, as 20 of 28
    assert max(box(Centred(1.0)(image)[0])) == 14
    floats = Centred()((image / 255).astype(np.float32))
    assert floats.dtype == np.float32
    np.testing.assert_allclose(255 * floats, found, atol=1e-3)
    np.testing.assert_array_equal(Centred()(np.repeat(image, 2, axis=1)).shape, (1, 28, 14, 1))


def test_images_of_several_channels_are_not_centred():
    assert Centred().applies_to(np.zeros((2, 8, 8, 1)))
    assert not Centred().applies_to(np.zeros((2, 8, 8, 3)))
    with pytest.raises(ValueError, match="share is 0"):
        Centred(0)
