"""IDX files as torchvision, Kaggle and EMNIST leave them lying about."""

import gzip
import struct

import numpy as np
import pytest

from pp_jax.data.files import merge
from pp_jax.data.formats import idx
from pp_jax.data.types import DatasetCorrupt


def stored(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def pairs(count: int, prefix: str = "", end: str = "") -> dict[str, bytes]:
    """Train and test files of `count` images whose pixels are `count`."""
    images, labels = np.full((count, 28, 28), count, np.uint8), np.arange(count, dtype=np.uint8)
    parts = {}
    for stem in ("train", "t10k"):
        parts[f"{prefix}{stem}-images-idx3-ubyte{end}"] = stored(images)
        parts[f"{prefix}{stem}-labels-idx1-ubyte{end}"] = stored(labels)
    return {name: gzip.compress(data) if end else data for name, data in parts.items()}


def count_of(parts: dict[str, bytes], **which) -> int:
    raw = idx.read(merge("data", parts), **which)
    assert list(raw.splits) == ["train", "test"]
    return len(raw.splits["train"][1])


def test_torchvisions_raw_folder_of_plain_and_gzipped_files_is_read():
    assert count_of(pairs(5, "MNIST/raw/") | pairs(5, "MNIST/raw/", ".gz")) == 5


def test_kaggles_folders_that_are_called_as_their_files_are_read():
    parts = {f"{name}/{name}": data for name, data in pairs(5).items()}
    parts |= {name.replace("-idx", ".idx"): data for name, data in pairs(5).items()}
    assert count_of(parts) == 5


def test_of_a_plain_and_a_gzipped_file_that_differ_none_is_chosen():
    with pytest.raises(DatasetCorrupt, match=r"train-images-idx3-ubyte and differ: train-images.*, train-images.*\.gz"):
        count_of(pairs(5) | pairs(6, end=".gz"))


@pytest.mark.parametrize(("name", "count"), [("mnist", 5), ("fashion_mnist", 6), ("kmnist", 7)])
def test_of_several_sets_in_one_folder_the_sets_own_is_read(name, count):
    parts = pairs(5, "MNIST/raw/") | pairs(6, "FashionMNIST/raw/") | pairs(7, "KMNIST/raw/")
    parts |= pairs(8, "EMNIST/raw/emnist-letters-")
    assert count_of(parts, set_name=name) == count
    assert count_of(parts, prefix="emnist-letters-", set_name="emnist") == 8


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (pairs(6, "FashionMNIST/raw/"), "FashionMNIST/raw/.* lies in the folder of another set than mnist"),
        (pairs(6, "a/") | pairs(7, "b/"), "differ: a/train-images.*, b/train-images.*give the folder of the one set"),
        (pairs(8, "emnist-letters-"), "no IDX files such as train-images.*, but emnist-letters-t10k-images"),
        (pairs(8, "kmnist-"), "no IDX files such as train-images.*, but kmnist-t10k-images"),
    ],
)
def test_what_may_be_another_set_is_refused(parts, message):
    with pytest.raises(DatasetCorrupt, match=message):
        count_of(parts)


def test_only_the_folders_next_to_the_files_say_which_set_they_are():
    assert len(idx.read(merge("/kmnist/.mnist.incomplete/tmp", pairs(5))).splits["train"][1]) == 5
    with pytest.raises(DatasetCorrupt, match="another set than mnist"):
        idx.read(merge("/data/KMNIST/raw", pairs(5)))


def test_a_header_that_promises_more_than_there_is_needs_no_memory():
    huge = b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 2**31) + bytes(100)
    with pytest.raises(DatasetCorrupt, match="holds 100 bytes where its header promises"):
        idx.parse(huge, "a file")
