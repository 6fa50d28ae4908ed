"""Known sets are found in whichever form they are, and what is not read is named."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pp_jax.data import catalog, labels
from pp_jax.data.files import merge
from pp_jax.data.formats import known
from pp_jax.data.types import DataError, DatasetCorrupt, Raw

X = np.random.default_rng(0).integers(2, 256, (10, 28, 28), dtype=np.uint8)
Y = np.arange(10, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npz(**content) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)
    return file.getvalue()


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


FORMS = {
    "IDX": {"train-images-idx3-ubyte": idx(X), "train-labels-idx1-ubyte": idx(Y)},
    "npz": {"mnist.npz": npz(x_train=X, y_train=Y)},
    "csv": {"mnist_train.csv": b"\n".join(",".join(map(str, [n, *X[n].flat])).encode() for n in range(10))},
    "pictures": {f"mnist_png/training/{y}/{y}.png": png(x) for x, y in zip(X, Y, strict=True)},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["mnist", "kmnist"])
def test_mnist_and_its_kin_are_read_in_every_form(form, name):
    raw = catalog.find(name).read(merge("data", FORMS[form]))
    np.testing.assert_array_equal(raw.splits["train"][0][..., 0], X)
    np.testing.assert_array_equal(raw.splits["train"][1], Y)


def test_cifar10_is_read_as_keras_has_it():
    photos = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
    raw = catalog.find("cifar10").read(merge("data", {"cifar10.npz": npz(x_train=photos, y_train=Y[:, None])}))
    np.testing.assert_array_equal(raw.splits["train"][0], np.moveaxis(photos, 1, -1))
    assert raw.class_names == labels.CIFAR10


def test_labels_follow_the_order_of_the_known_classes():
    names = ("Ship", "air-plane", "CAT")
    raw = Raw({"train": (X[:3, ..., None], np.array([0, 1, 2]))}, names)
    assert known.in_order(raw, labels.CIFAR10, "data").splits["train"][1].tolist() == [8, 0, 3]
    with pytest.raises(DatasetCorrupt, match="several classes for one of this set: cat, 3"):
        known.in_order(Raw(raw.splits, ("cat", "3", "ship")), labels.CIFAR10, "data")
    with pytest.raises(DatasetCorrupt, match=r"classes that this set lacks \(submarine\)"):
        known.in_order(Raw(raw.splits, ("submarine", "cat")), labels.CIFAR10, "data")


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("notmnist", "notMNIST.pickle", "is a pickle, which can run code"),
        ("mnist", "MNIST/processed/training.pt", "a PyTorch file, which is a pickle, and is not read"),
        ("mnist", "train-00000-of-00001.parquet", "is a Parquet table and is not read"),
        ("emnist/letters", "emnist-letters.mat", r"is a MATLAB file and is not read; give gzip\.zip"),
        ("emnist/letters", "train/A/1.png", "may or may not have rows and columns exchanged"),
        ("emnist/letters", "emnist.npz", "may or may not have rows and columns exchanged"),
        ("mnist", "mnist-train.tfrecord-00000-of-00001", "a TFRecord, which only TensorFlow reads"),
        ("mnist", "readme.txt", r"nothing that is read \(readme\.txt\); give a folder or archive of IDX"),
        ("cifar10", "data_batch_1", r"pickle, which is not opened: fetch the binary version \(cifar-10-binary"),
        ("svhn_cropped", "train/digitStruct.mat", "SVHN's format 1.*fetch format 2"),
    ],
)
def test_a_form_that_is_not_read_is_named_with_the_one_that_is(name, file, message):
    with pytest.raises(DatasetCorrupt, match=message):
        catalog.find(name).read(merge("data", {file: b"\x80\x04"}))


def test_a_size_is_for_pictures():
    with pytest.raises(DataError, match="--size applies to image folders"):
        catalog.find("notmnist").read(merge("data", {"a.npz": npz(images=X, labels=Y)}), size=8)
