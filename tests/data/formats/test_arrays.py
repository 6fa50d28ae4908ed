"""Images and labels in the forms that people store them in: exact where they mean one thing, else refused."""

import numpy as np
import pytest

from pp_jax.data.formats import arrays
from pp_jax.data.types import DatasetCorrupt

GREY, COLOUR = (28, 28, 1), (32, 32, 3)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
PHOTOS = RNG.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "stored",
    [
        PIXELS,
        PIXELS[..., 0],
        PIXELS.reshape(5, 784),
        np.moveaxis(PIXELS, -1, 1),
        PIXELS.astype(np.int64),
        PIXELS.astype(np.float32),
        PIXELS.astype(">f8"),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        (PIXELS / 255).astype(np.float16),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_grey_images_are_read_exactly_in_every_form(stored):
    np.testing.assert_array_equal(arrays.images(stored, GREY, "x"), PIXELS)


def test_colour_images_are_read_with_the_channel_last_or_first():
    np.testing.assert_array_equal(arrays.images(PHOTOS, COLOUR, "x"), PHOTOS)
    np.testing.assert_array_equal(arrays.images(np.moveaxis(PHOTOS, -1, 1), COLOUR, "x"), PHOTOS)
    rows = np.moveaxis(PHOTOS, -1, 1).reshape(5, -1)
    np.testing.assert_array_equal(arrays.images(rows, COLOUR, "x", planar=True), PHOTOS)


def test_booleans_are_black_and_white():
    assert arrays.images(np.array([[[True, False]]]), (1, 2, 1), "x").ravel().tolist() == [255, 0]


@pytest.mark.parametrize(
    ("stored", "shape", "message"),
    [
        (PHOTOS.reshape(5, -1), COLOUR, r"one after the other or be interleaved: save it as \(N, 32, 32, 3\)"),
        (PIXELS / 127.5 - 1, GREY, "values from -1 to 1.*before any normalisation"),
        (PIXELS * np.float32(np.nan), GREY, "values from nan"),
        (PIXELS.astype(int) + 1000, GREY, "values from 10"),
        (PIXELS / 256, GREY, "neither whole in 0..255 nor k/255"),
        (PIXELS + 0.5 - (PIXELS == 255), GREY, "neither whole in 0..255 nor k/255"),
        ((PIXELS > 99).astype(np.uint8), GREY, "only 0 and 1, which may be black and white"),
        ((PIXELS > 99).astype(np.float32), GREY, "only 0 and 1, which may be black and white"),
        (PIXELS.astype(complex), GREY, "not complex128"),
        (PIXELS.astype(str), GREY, "not <U"),
        (PIXELS.ravel(), GREY, r"must be uint8 images \(N, H, W\[, C\]\)"),
        (PIXELS.reshape(5, 784)[:, :700], GREY, r"must be uint8 images \(N, H, W\[, C\]\)"),
    ],
)
def test_images_that_can_mean_several_things_are_refused(stored, shape, message):
    with pytest.raises(DatasetCorrupt, match=message):
        arrays.images(stored, shape, "the images")


LABELS = np.array([2, 0, 1, 2, 1])


@pytest.mark.parametrize(
    "stored",
    [
        LABELS,
        LABELS.astype(np.uint8),
        LABELS[:, None],
        LABELS[None],
        LABELS.astype(np.float32),
        LABELS.astype(str),
        LABELS.astype("S"),
        np.eye(3)[LABELS],
        np.eye(3, dtype=bool)[LABELS],
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_labels_are_read_in_every_form(stored):
    np.testing.assert_array_equal(arrays.labels(stored, 5, "y"), LABELS)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (LABELS - 1, "from -1 to 1"),
        (LABELS * 10**9, "from 0 to 2000000000"),
        (LABELS + 0.5, "no whole numbers"),
        (LABELS * np.nan, "no whole numbers"),
        (LABELS[:4], "one label for each of 5 images"),
        (np.full((5, 3), 1 / 3), "not one-hot"),
        (np.ones((5, 3)), "not one-hot"),
        (LABELS.astype(complex), "not complex128"),
        (np.array([b"\xff"] * 5), "not UTF-8"),
    ],
)
def test_labels_that_are_no_labels_are_refused(stored, message):
    with pytest.raises(DatasetCorrupt, match=message):
        arrays.labels(stored, 5, "the labels")


def numbered(labels, given=None, known=None):
    parts, names, note = arrays.number({"train": np.asarray(labels)}, given, known, "the source")
    return parts["train"].tolist(), names, note


def test_labels_from_one_are_counted_from_zero_with_a_word():
    told = "labels 1..3 of the source are stored as 0..2"
    assert numbered([1, 2, 3]) == ([0, 1, 2], None, told)
    assert numbered([1, 3, 3], given=("a", "b", "c")) == ([0, 2, 2], ("a", "b", "c"), told)
    assert numbered([1, 3, 3], known=("a", "b", "c")) == ([0, 2, 2], ("a", "b", "c"), told)


def test_labels_from_zero_or_with_gaps_stay_as_they_are():
    assert numbered([0, 1, 2]) == ([0, 1, 2], None, "")
    assert numbered([1, 3]) == ([1, 3], None, "")
    assert numbered([1, 2], known=("a", "b", "c")) == ([1, 2], ("a", "b", "c"), "")


def test_digits_labelled_from_one_to_ten_are_refused():
    with pytest.raises(DatasetCorrupt, match="10 may be the digit 0 or the digit 9"):
        numbered(range(1, 11), known=tuple("0123456789"))


def test_labels_that_are_names_are_numbered_as_the_classes_are():
    cat, dog = np.array(["dog", "cat"]), ("dog", "cat")
    assert numbered(cat) == ([1, 0], ("cat", "dog"), "")
    assert numbered(cat, known=dog) == ([0, 1], dog, "")
    with pytest.raises(DatasetCorrupt, match=r"labels \['cat'\], which are none of the classes"):
        numbered(cat, known=("dog", "bird"))


def test_class_names_are_text_also_where_they_are_bytes():
    assert arrays.names(np.array([b"A", "é".encode()]), "names") == ("A", "é")
    with pytest.raises(DatasetCorrupt, match="one name for each class"):
        arrays.names(np.array([["A"]]), "names")
