"""CIFAR as folders of single pictures, in the layouts of fastai and Kaggle."""

import io

import pytest
from PIL import Image

from pp_jax.data import labels
from pp_jax.data.files import merge
from pp_jax.data.formats import cifar
from pp_jax.data.types import DatasetCorrupt


def picture(level: int, side: int = 32, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (level, level, level)).save(file, kind)
    return file.getvalue()


def read(parts: dict[str, bytes], classes=labels.CIFAR10):
    raw = cifar.read(merge("data", parts), classes)
    assert raw.class_names == classes
    return raw, {s: dict(zip(x[:, 0, 0, 0].tolist(), y.tolist(), strict=True)) for s, (x, y) in raw.splits.items()}


def test_fastais_folders_are_read():
    parts = {
        f"cifar10/{s}/{c}/{n}_{c}.png": picture(n) for s in ("train", "test") for n, c in enumerate(labels.CIFAR10)
    }
    raw, found = read(parts | {"cifar10/labels.txt": b"airplane"})
    assert found == {split: {n: n for n in range(10)} for split in ("train", "test")}
    assert "their ids are positions in that order" in raw.note


def test_fastais_folders_of_cifar100_lie_in_those_of_the_coarse_classes():
    parts = {"train/fish/shark/1.png": picture(1), "train/trees/oak_tree/2.png": picture(2)}
    assert read(parts, labels.CIFAR100)[1] == {"train": {1: 73, 2: 52}}


def test_the_class_of_cifar100_that_is_called_as_a_split_is_a_class_below_a_split():
    parts = {f"{split}/{name}/1.png": picture(1) for split in ("train", "test") for name in ("train", "shark")}
    parts = {name: picture(level) for level, name in enumerate(parts)}
    raw, found = read(parts | {"train/7.png": picture(9)}, labels.CIFAR100)
    assert found == {"train": {0: 90, 1: 73}, "test": {2: 90, 3: 73}}
    assert raw.left_out == ("1 picture without a label (train/7.png)",)


def test_pictures_named_after_their_number_and_class_are_read():
    assert read({"train/7_ship.png": picture(7), "test/9_truck.png": picture(9)})[1] == {
        "train": {7: 8},
        "test": {9: 9},
    }


def test_kaggles_table_labels_the_pictures_of_train_alone():
    table = b"id,label\n1,frog\n2,truck\n"
    parts = {"trainLabels.csv": table, "train/1.png": picture(1), "train/2.png": picture(2), "test/1.png": picture(3)}
    raw, found = read(parts)
    assert found == {"train": {1: 6, 2: 9}}
    assert raw.left_out == ("1 picture without a label (test/1.png)",)


def test_a_part_for_validation_is_a_split_of_its_own():
    assert read({"train/ship/1.png": picture(1), "valid/ship/1.png": picture(2)})[1] == {
        "train": {1: 8},
        "validation": {2: 8},
    }


def test_folders_of_numbers_are_labels():
    assert read({"train/0/a.png": picture(1), "train/9/a.png": picture(2)})[1] == {"train": {1: 0, 2: 9}}


def test_pictures_that_were_compressed_as_jpeg_are_told():
    assert "compressed as JPEG" in read({"train/ship/1.jpg": picture(7, kind="JPEG")})[0].note


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"trainLabels.csv": b"id,label\n1,submarine\n", "train/1.png": picture(1)}, "has the row '1,submarine'"),
        ({"trainLabels.csv": b"id,label\nfrog\n", "train/1.png": picture(1)}, "has the row 'frog'"),
        ({"train/submarine/1.png": picture(1)}, "no class of this set"),
    ],
)
def test_pictures_of_no_class_are_refused(parts, message):
    with pytest.raises(DatasetCorrupt, match=message):
        read(parts)
