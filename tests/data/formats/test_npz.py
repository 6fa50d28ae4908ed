"""NumPy archives under the names that Keras, MedMNIST, KMNIST and the downsampled ImageNet give their arrays."""

import gzip
import io
import zipfile

import numpy as np
import pytest

from pp_jax.data.files import merge
from pp_jax.data.formats import npz
from pp_jax.data.types import DatasetCorrupt

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8), np.arange(12) % 10
GREY = (28, 28, 1)


def packed(**content) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)
    return file.getvalue()


def plain(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def check(raw, **sizes):
    assert {split: len(labels) for split, (_, labels) in raw.splits.items()} == sizes
    for split, (images, labels) in raw.splits.items():
        np.testing.assert_array_equal(images[..., 0], X[: sizes[split]])
        np.testing.assert_array_equal(labels, Y[: sizes[split]])


@pytest.mark.parametrize(
    ("keys", "splits"),
    [
        (("x_train", "y_train", "x_test", "y_test"), ("train", "test")),
        (("X_train", "Y_train", "X_test", "Y_test"), ("train", "test")),
        (("train_images", "train_labels", "val_images", "val_labels"), ("train", "validation")),
    ],
)
def test_the_names_of_keras_and_medmnist_are_understood(keys, splits):
    content = dict(zip(keys, (X, Y[:, None], X[:7], Y[:7, None]), strict=True))
    check(npz.read(merge("a", {"a.npz": packed(**content)}), GREY), **dict(zip(splits, (12, 7), strict=True)))


@pytest.mark.parametrize(
    ("name", "split"), [("set.npz", "train"), ("test.npz", "test"), ("mnist_val.npz", "validation")]
)
@pytest.mark.parametrize("keys", [("X", "y"), ("images", "labels"), ("data", "targets")])
def test_an_archive_of_one_split_is_the_split_it_is_named_after(name, split, keys):
    check(npz.read(merge("a", {name: packed(**dict(zip(keys, (X, Y), strict=True)))}), GREY), **{split: 12})


def test_the_four_files_of_kmnist_are_read():
    stems = {"train": 12, "test": 7}
    kinds = {"imgs": X, "labels": Y}
    parts = {f"kmnist-{s}-{k}.npz": packed(arr_0=kinds[k][:n]) for s, n in stems.items() for k in kinds}
    check(npz.read(merge("folder", parts), GREY), **stems)
    del parts["kmnist-test-labels.npz"]
    with pytest.raises(DatasetCorrupt, match=r"of the split test in folder has no partner.*lacks the array labels"):
        npz.read(merge("folder", parts), GREY)


def test_an_archive_may_be_packed():
    check(npz.read(merge("folder", {"set.npz.gz": gzip.compress(packed(images=X, labels=Y))}), GREY), train=12)


def test_plain_arrays_are_read_as_those_of_an_archive():
    check(npz.read(merge("folder", {"x_train.npy": plain(X), "y_train.npy": plain(Y)}), GREY), train=12)


def test_the_batches_of_the_downsampled_imagenet_are_read_in_order():
    photos = RNG.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    rows = np.moveaxis(photos, -1, 1).reshape(4, -1)

    def batch(part: slice) -> bytes:
        return packed(data=rows[part], labels=np.array([1, 1000, 7, 2])[part], mean=np.zeros(192))

    parts = {
        "Imagenet8_train_npz/train_data_batch_10.npz": batch(slice(2, 4)),
        "Imagenet8_train_npz/train_data_batch_9.npz": batch(slice(2)),
        "Imagenet8_val_npz/val_data.npz": batch(slice(1)),
    }
    raw = npz.read(merge("folder", parts), (8, 8, 3))
    np.testing.assert_array_equal(raw.splits["train"][0], photos)
    assert raw.splits["train"][1].tolist() == [0, 999, 6, 1]
    assert raw.splits["validation"][1].tolist() == [0]
    assert (len(raw.class_names), raw.class_names[0]) == (1000, "n02119789")
    assert "labels 1..1000 of the downsampled ImageNet are stored as 0..999" in raw.note


def test_class_names_stored_as_bytes_are_text():
    raw = npz.read(merge("a", {"a.npz": packed(images=X[:2], labels=Y[:2], class_names=np.array([b"A", b"B"]))}), GREY)
    assert raw.class_names == ("A", "B")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"a.npz": packed(arr_0=X)}, "arrays called arr_0; needed are images and labels, or x_train"),
        ({"a.npz": packed(images=X)}, "lacks the array labels"),
        ({"a.npz": packed(labels=Y)}, "lacks the array images"),
        ({"a.npz": packed(images=X, x=X, labels=Y)}, "several arrays"),
        ({"a.npz": packed(images=X, labels=Y), "b.npz": packed(images=X, labels=Y)}, "several arrays.*name one file"),
        (
            {"a.npz": packed(images=X, labels=Y, class_names=np.array(["A"], object))},
            "class_names in .* Python objects",
        ),
        (
            {"a.npz": packed(images=np.array([None, X], object), labels=Y)},
            "images in .* Python objects",
        ),
        ({"a.npz": b""}, "not a whole .npz"),
        ({"a.npz": packed(images=X, labels=Y)[:900]}, "not a whole .npz"),
        ({"x_train.npy": plain(X)[:900], "y_train.npy": plain(Y)}, r"at most 900 bytes where its header promises 9408"),
    ],
)
def test_archives_of_other_content_are_one_clear_error(parts, message):
    with pytest.raises(DatasetCorrupt, match=message):
        npz.read(merge("a", parts), GREY)


@pytest.mark.parametrize("shape", [(2**31, 28, 28), (2**62, 2**62), (-5, 28, 28)])
def test_a_header_that_promises_more_than_there_is_needs_no_memory(shape):
    data = plain(X).replace(b"(12, 28, 28), }", f"{shape}, }}".encode())
    file = io.BytesIO()
    header = np.lib.format
    header.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("images.npy", file.getvalue() + b"\0" * 100)
        out.writestr("labels.npy", plain(Y))
    del data
    with pytest.raises(DatasetCorrupt, match="header promises"):
        npz.read(merge("a", {"a.npz": archive.getvalue()}), GREY)


def test_an_archive_that_unpacks_to_far_more_than_an_image_set_is_refused(monkeypatch):
    monkeypatch.setattr("pp_jax.data.packed._FREE", 5000)
    file = io.BytesIO()
    np.savez_compressed(file, images=np.zeros((1000, 28, 28), np.uint8), labels=np.zeros(1000, int))
    with pytest.raises(DatasetCorrupt, match="unpacks to more than"):
        npz.read(merge("a", {"a.npz": file.getvalue()}), GREY)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    with pytest.raises(DatasetCorrupt, match="Python objects"):
        npz.read(merge("a", {"a.npz": packed(images=np.array([Trap()], object), labels=Y)}), GREY)
    assert not (tmp_path / "opened").exists()
