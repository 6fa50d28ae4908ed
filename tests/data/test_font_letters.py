"""font_letters: deterministic, balanced, MNIST-like."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.ft2font import FT2Font

from pp_jax.data import font_letters

COUNTS = {"train": 104, "test": 52}


@pytest.fixture(scope="module")
def letters():
    return font_letters.make(seed=3, counts=COUNTS)


def test_the_same_seed_renders_the_same_set(letters):
    again = font_letters.make(seed=3, counts=COUNTS)
    for split in COUNTS:
        np.testing.assert_array_equal(again.splits[split][0], letters.splits[split][0])


def test_another_seed_and_another_split_render_other_images(letters):
    other = font_letters.make(seed=4, counts=COUNTS)
    assert (other.splits["train"][0] != letters.splits["train"][0]).any()
    assert (letters.splits["train"][0][:52] != letters.splits["test"][0]).any()


def test_classes_are_balanced_and_named_after_the_letters(letters):
    assert "".join(letters.class_names) == "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for split, count in COUNTS.items():
        np.testing.assert_array_equal(np.bincount(letters.splits[split][1], minlength=52), count // 52)


def test_images_are_white_letters_of_at_most_20_pixels_centred_by_mass(letters):
    images = letters.splits["train"][0][..., 0].astype(float)
    assert images.shape[1:] == (28, 28)
    for image in images:
        rows, columns = np.nonzero(image.sum(1))[0], np.nonzero(image.sum(0))[0]
        assert max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
        assert image.max() > 128
        assert 0.01 < image.mean() / 255 < 0.5
        for axis in (0, 1):
            centre = image.sum(axis=1 - axis) @ (np.arange(28) + 0.5) / image.sum()
            assert abs(centre - 14) <= 0.6


def test_every_font_has_every_letter():
    for path in font_letters._font_files():
        assert set(map(ord, font_letters.LETTERS)) <= set(FT2Font(str(path)).get_charmap()), path.name


def test_about_twenty_fonts_are_used():
    assert len(font_letters._font_files()) >= 15


@given(st.floats(-20, 20), st.floats(-0.4, 0.4), st.floats(0.8, 1.25), st.floats(0.8, 1.25), st.sampled_from("MWil"))
def test_no_distortion_in_range_cuts_a_letter_off(rotation, shear, width, height, letter):
    angle = np.deg2rad(rotation)
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotate @ np.array([[1, shear], [0, 1]]) @ np.diag([width, height])
    glyph = font_letters._glyph(font_letters._font_files()[3], letter)
    corners = matrix @ (np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * np.array(glyph.size) / 2).T
    assert np.abs(corners).max() < font_letters._CANVAS / 2
    assert font_letters.render(glyph, matrix).any()
