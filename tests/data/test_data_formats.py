"""Readers: each format is read as it was written, and each damage is one clear error that names the file."""

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from pp_jax.data import labels
from pp_jax.data.files import merge, open_files
from pp_jax.data.formats import cifar, folder, idx, mat, npz
from pp_jax.data.types import DatasetCorrupt, SourceUnavailable

RNG = np.random.default_rng(0)


def idx_bytes(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_parts(train: int = 5, test: int = 3, prefix: str = "", end: str = "") -> dict[str, bytes]:
    parts = {}
    for stem, count in (("train", train), ("t10k", test)):
        images = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        parts[f"{prefix}{stem}-images-idx3-ubyte{end}"] = idx_bytes(images)
        parts[f"{prefix}{stem}-labels-idx1-ubyte{end}"] = idx_bytes(np.arange(count, dtype=np.uint8))
    return {name: gzip.compress(data) if end else data for name, data in parts.items()}


def png(array: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def write_archive(path, parts: dict[str, bytes]):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
    elif ".tar" in path.name:
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
            for name, data in parts.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    else:
        for name, data in parts.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


@given(arrays(np.uint8, st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)))
def test_idx_is_read_as_it_was_written(array):
    np.testing.assert_array_equal(idx.parse(idx_bytes(array), "a file"), array)


@given(st.data())
def test_idx_of_any_other_length_is_refused(data):
    whole = idx_bytes(np.ones((3, 4, 5), np.uint8))
    cut = data.draw(st.integers(0, len(whole) - 1))
    for damaged in (whole[:cut], whole + b"\0"):
        with pytest.raises(DatasetCorrupt, match="some-file"):
            idx.parse(damaged, "some-file")


@pytest.mark.parametrize("magic", [b"\0\0\x0d\x03", b"\x89PNG", b"\0\0\x08\x00", b""])
def test_idx_with_another_magic_number_is_refused(magic):
    with pytest.raises(DatasetCorrupt, match="not an IDX file"):
        idx.parse(magic + bytes(100) if magic else b"", "some-file")


@pytest.mark.parametrize("where", ["folder", "set.zip", "set.tar", "set.tar.gz"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_folders_and_archives_of_idx_files_are_read_alike(tmp_path, where, end):
    parts = mnist_parts(prefix="some/folder/", end=end)
    raw = idx.read(open_files(write_archive(tmp_path / where, parts)))
    assert {split: images.shape for split, (images, _) in raw.splits.items()} == {
        "train": (5, 28, 28, 1),
        "test": (3, 28, 28, 1),
    }
    np.testing.assert_array_equal(raw.splits["train"][1], np.arange(5))


def test_emnist_configurations_are_told_apart():
    files = merge("gzip.zip", mnist_parts(4, 2, "gzip/emnist-letters-") | mnist_parts(6, 3, "gzip/emnist-digits-"))
    assert len(idx.read(files, "emnist-letters-").splits["train"][1]) == 4
    with pytest.raises(DatasetCorrupt, match=r"no IDX files such as train-images.*but emnist-digits"):
        idx.read(files)


def test_half_a_pair_of_idx_files_is_refused():
    parts = mnist_parts()
    del parts["t10k-labels-idx1-ubyte"]
    with pytest.raises(DatasetCorrupt, match="one half of the pair test"):
        idx.read(merge("some-folder", parts))


def test_no_idx_files_is_an_error_that_names_one():
    with pytest.raises(DatasetCorrupt, match="train-images-idx3-ubyte"):
        idx.read(merge("some-folder", {"readme.txt": b""}))


@pytest.mark.parametrize("where", ["set.zip", "set.tar.gz", "folder"])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_archives_and_gzip_files_are_one_clear_error(tmp_path, where, keep):
    target = write_archive(tmp_path / where, mnist_parts(end=".gz"))
    victim = target / "train-images-idx3-ubyte.gz" if target.is_dir() else target
    data = victim.read_bytes()
    victim.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(DatasetCorrupt, match=victim.name):
        idx.read(open_files(target))


def test_a_path_that_does_not_exist_is_one_clear_error(tmp_path):
    with pytest.raises(SourceUnavailable, match="no file or folder"):
        open_files(tmp_path / "absent")


@pytest.mark.parametrize(
    ("classes", "names", "label_bytes"),
    [
        (labels.CIFAR10, ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"), 1),
        (labels.CIFAR100, ("train.bin", "test.bin"), 2),
    ],
)
def test_cifar_binary_is_read_with_channels_last_and_fine_labels(classes, names, label_bytes):
    records = {name: RNG.integers(0, 10, (4, label_bytes + 3072), dtype=np.uint8) for name in names}
    raw = cifar.read(merge("a.tar", {f"cifar/{name}": data.tobytes() for name, data in records.items()}), classes)
    images, found = raw.splits["test"]
    last = records[names[-1]]
    np.testing.assert_array_equal(found, last[:, label_bytes - 1])
    np.testing.assert_array_equal(images[2, 5, 7], last[2, label_bytes + 5 * 32 + 7 :: 1024])
    assert len(raw.splits["train"][1]) == 4 * (len(names) - 1)


def test_of_both_cifars_in_one_folder_each_is_read():
    parts = {f"cifar-10-batches-bin/{name}.bin": bytes(2 * 3073) for name in ("data_batch_1", "test_batch")}
    parts |= {f"cifar-100-binary/{name}.bin": bytes(5 * 3074) for name in ("train", "test")}
    for classes, count in ((labels.CIFAR10, 2), (labels.CIFAR100, 5)):
        splits = cifar.read(merge("data", parts), classes).splits
        assert {split: len(found) for split, (_, found) in splits.items()} == {"train": count, "test": count}


def test_cifar_binary_of_a_broken_length_is_refused():
    with pytest.raises(DatasetCorrupt, match=r"test_batch\.bin.*3073"):
        cifar.read(merge("a.tar", {"test_batch.bin": bytes(5000)}), labels.CIFAR10)


def test_cifar_pickles_are_refused_unopened():
    opened = []
    files = merge("a.tar", {"cifar-10-batches-py/data_batch_1": b"\x80"})
    files = type(files)(files.origin, files.names, opened.append)
    with pytest.raises(DatasetCorrupt, match="pickle"):
        cifar.read(files, labels.CIFAR10)
    assert not opened


@pytest.mark.parametrize("kind", ["webp", "png"])
def test_mosaics_are_cut_row_by_row_and_parts_keep_their_order(kind):
    tiles = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    sheets = tiles.reshape(2, 2, 3, 32, 32, 3).swapaxes(2, 3).reshape(2, 64, 96, 3)
    parts = {f"cifar10/train/ship_{index}.{kind}": png(sheet, kind.upper()) for index, sheet in enumerate(sheets)}
    parts["cifar10/not_lossless.csv"] = b"split,class,index\n"
    images, found = cifar.read(merge("a.tar", parts), labels.CIFAR10).splits["train"]
    np.testing.assert_array_equal(images, tiles)
    assert set(found) == {labels.CIFAR10.index("ship")}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("train/ship.png", png(np.zeros((64, 64, 3), np.uint8))[:60], "not a whole image"),
        ("train/ship.png", png(np.zeros((64, 60, 3), np.uint8)), "64×60"),
        ("train/submarine.png", png(np.zeros((64, 64, 3), np.uint8)), "no class"),
        ("readme.txt", b"", "neither"),
    ],
)
def test_bad_mosaics_are_refused(name, data, message):
    with pytest.raises(DatasetCorrupt, match=message):
        cifar.read(merge("a.tar", {name: data}), labels.CIFAR10)


def test_cifar100_has_a_hundred_classes_in_twenty_of_five():
    assert len(set(labels.CIFAR100)) == 100
    np.testing.assert_array_equal(np.bincount(labels.CIFAR100_COARSE_OF_FINE), np.full(20, 5))
    assert labels.CIFAR100_COARSE[labels.CIFAR100_COARSE_OF_FINE[labels.CIFAR100.index("beaver")]] == "aquatic_mammals"


def mat_bytes(images: np.ndarray, digits: np.ndarray) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": digits[:, None]})
    return file.getvalue()


def test_svhn_is_read_with_ten_as_the_digit_zero():
    images = RNG.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    data = mat_bytes(images, np.array([1, 10, 9, 2], np.uint8))
    found, digits = mat.read(merge("svhn", {"train_32x32.mat": data})).splits["train"]
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(digits, [1, 0, 9, 2])


def test_bad_svhn_files_are_refused():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    whole = mat_bytes(images, np.array([1, 2], np.uint8))
    for data in (whole[:3000], b"", b"not matlab" * 20, mat_bytes(images, np.array([0, 11], np.uint8))):
        with pytest.raises(DatasetCorrupt, match=r"train_32x32\.mat"):
            mat.read(merge("svhn", {"train_32x32.mat": data}))
    with pytest.raises(DatasetCorrupt, match="no SVHN file"):
        mat.read(merge("svhn", {}))


GREY, COLOUR = np.full((8, 8), 9, np.uint8), np.full((8, 8, 3), 7, np.uint8)


def test_image_folders_give_split_class_and_image():
    parts = {f"set/{split}/{name}/1.png": png(COLOUR) for split in ("train", "val") for name in ("cat", "dog")}
    parts["set/train/cat/2.PNG"] = png(GREY)
    raw = folder.read(merge("set", parts), channels=3)
    assert raw.class_names == ("cat", "dog")
    assert {split: list(found) for split, (_, found) in raw.splits.items()} == {
        "train": [0, 0, 1],
        "validation": [0, 1],
    }
    assert raw.splits["train"][0].shape == (3, 8, 8, 3)


def test_a_folder_of_classes_alone_is_the_split_train():
    raw = folder.read(merge("set", {"A/1.png": png(GREY), "B/1.png": png(GREY)}), channels=1)
    assert {split: images.shape for split, (images, _) in raw.splits.items()} == {"train": (2, 8, 8, 1)}


def test_tiny_imagenet_official_layout():
    root = "tiny-imagenet-200/"
    parts = {
        root + "wnids.txt": b"n2\nn1\nn3\n",
        root + "words.txt": b"n1\tgoldfish\nn2\tshark\nn3\tray\nn4\then\n",
        root + "train/n1/images/n1_0.JPEG": png(COLOUR, "JPEG"),
        root + "train/n2/images/n2_0.JPEG": png(GREY, "JPEG"),
        root + "train/n1/n1_boxes.txt": b"",
        root + "val/images/val_0.JPEG": png(COLOUR, "JPEG"),
        root + "val/val_annotations.txt": b"val_0.JPEG\tn2\t0\t0\t9\t9\n",
        root + "test/images/test_0.JPEG": png(COLOUR, "JPEG"),
    }
    raw = folder.read(merge("a.zip", parts), channels=3)
    assert raw.class_names == ("goldfish", "shark", "ray")
    assert {split: list(found) for split, (_, found) in raw.splits.items()} == {"train": [0, 1], "validation": [1]}


def test_a_table_of_classes_names_and_numbers_them():
    parts = {"tiny/classes.tsv": b"n1\tgoldfish\nn2\tshark\n", "tiny/val/n2/a.JPEG": png(COLOUR, "JPEG")}
    raw = folder.read(merge("a.tar", parts), channels=3)
    assert raw.class_names == ("goldfish", "shark")
    assert list(raw.splits["validation"][1]) == [1]


def test_images_are_never_resized_unasked():
    files = merge("set", {"a/1.png": png(COLOUR), "a/2.png": png(np.zeros((9, 12, 3), np.uint8))})
    with pytest.raises(DatasetCorrupt, match=r"9×12.*--size"):
        folder.read(files, channels=3)
    assert folder.read(files, channels=3, size=6).splits["train"][0].shape == (2, 6, 6, 3)


@pytest.mark.parametrize("data", [b"", b"text", png(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))[:2000]])
def test_a_broken_image_is_named(data):
    with pytest.raises(DatasetCorrupt, match=r"a/1\.png"):
        folder.read(merge("set", {"a/1.png": data}), channels=3)


def npz_files(**content):
    file = io.BytesIO()
    np.savez(file, **content)
    return merge("folder", {"set.npz": file.getvalue()})


def test_npz_is_read_as_the_split_train():
    images = RNG.integers(0, 256, (3, 5, 5), dtype=np.uint8)
    raw = npz.read(npz_files(images=images, labels=np.array([0, 1, 1], np.uint16), label_names=np.array(["x", "y"])))
    np.testing.assert_array_equal(raw.splits["train"][0][..., 0], images)
    assert raw.class_names == ("x", "y")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": np.zeros((2, 3, 3), np.uint8)}, "lacks the array labels"),
        ({"images": np.full((2, 3, 3), -0.5), "labels": np.zeros(2, int)}, "uint8"),
        ({"images": np.zeros((2, 3), np.uint8), "labels": np.zeros(2, int)}, "uint8"),
    ],
)
def test_npz_of_other_content_is_refused(content, message):
    with pytest.raises(DatasetCorrupt, match=message):
        npz.read(npz_files(**content))


def test_npz_that_is_truncated_or_pickled_is_refused():
    whole = npz_files(images=np.zeros((2, 30, 30), np.uint8), labels=np.zeros(2, int))
    with pytest.raises(DatasetCorrupt, match=r"set\.npz"):
        npz.read(merge("folder", {"set.npz": whole.read("set.npz")[:900]}))
    with pytest.raises(DatasetCorrupt, match=r"set\.npz"):
        npz.read(npz_files(images=np.array([{}], object), labels=np.zeros(1, int)))
