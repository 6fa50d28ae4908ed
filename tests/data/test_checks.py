"""What is said of a source before a set is written: other sets, missing parts, classes without images."""

import dataclasses

import numpy as np
import pytest

from pp_jax.data import DatasetCorrupt, catalog, checks, manifest, remotes
from pp_jax.data.types import Raw
from small_sets import random_raw, spec_of

RAW = random_raw(shape=(28, 28, 1), classes=10, counts={"train": 12, "test": 10})


def digests_of(raw: Raw) -> dict[str, str]:
    return {split: manifest.arrays_digest(*arrays) for split, arrays in raw.splits.items()}


def with_counts(name: str, raw: Raw, **more):
    return dataclasses.replace(
        catalog.find(name), counts={split: len(y) for split, (_, y) in raw.splits.items()}, **more
    )


def test_the_images_of_mnist_are_not_stored_as_another_set(monkeypatch):
    monkeypatch.setattr(remotes, "MNIST_DIGESTS", digests_of(RAW))
    raw = dataclasses.replace(RAW, class_names=None)
    with pytest.raises(DatasetCorrupt, match="these are the images of mnist, not of kmnist"):
        checks.normalise(with_counts("kmnist", raw), raw, whole=False)
    other = random_raw(1, shape=(28, 28, 1), classes=10, counts={"train": 12, "test": 10})
    checks.normalise(with_counts("kmnist", other), other, whole=False)


def test_images_that_are_not_the_official_ones_are_told():
    digests = digests_of(RAW)
    known = with_counts("mnist", RAW, digests=digests)
    assert checks.normalise(known, RAW, whole=False)[0].note == ""
    strange = dataclasses.replace(known, digests={**digests, "test": "0"})
    note = checks.normalise(strange, RAW, whole=False)[0].note
    assert note == "images or labels of test are not those of the official mnist"


def test_a_part_of_a_set_is_refused_with_what_was_left_out_and_where_the_whole_is():
    raw = Raw({"train": RAW.splits["train"]}, left_out=("9 images of test.csv, which have no labels",))
    with pytest.raises(
        DatasetCorrupt,
        match=r"only train \(left out: 9 images of test\.csv.*\): a part of the set.*without --from, .* prepare mnist",
    ):
        checks.normalise(catalog.find("mnist"), raw, whole=False)


def test_classes_without_images_are_told_once():
    images, _ = RAW.splits["train"]
    raw = Raw(
        {"train": (images, np.full(12, 2))}, ("a", "b", "c"), note="a word; 2 classes without train images (a, b)"
    )
    note = checks.normalise(spec_of(raw), raw, whole=False)[0].note
    assert note == "a word; 2 classes without train images (a, b)"
    assert checks.normalise(spec_of(raw), dataclasses.replace(raw, note=""), whole=False)[0].note == note[8:]


def test_more_labels_than_class_names_are_refused_with_the_cure():
    images, labels = RAW.splits["train"]
    with pytest.raises(DatasetCorrupt, match=r"0\.\.1, not 0\.\.9: there are 2 class names; give one for each label"):
        checks.normalise(spec_of(RAW), Raw({"train": (images, labels)}, ("a", "b")), whole=False)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (Raw({}), "no images for notmnist: give notMNIST_small"),
        (
            Raw({"train": RAW.splits["train"], "test": (np.zeros((0, 28, 28, 1), np.uint8), np.zeros(0, int))}),
            "split test",
        ),
        (Raw({"train": (np.zeros((2, 28, 28, 3), np.uint8), np.arange(2))}), "save them with 1 channel"),
        (Raw({"train": (np.zeros((2, 32, 32, 1), np.uint8), np.arange(2))}), "choose a size with --size"),
    ],
)
def test_no_images_and_images_of_another_shape_are_refused_with_the_cure(raw, message):
    with pytest.raises(DatasetCorrupt, match=message):
        checks.normalise(catalog.find("notmnist"), raw, whole=False)
