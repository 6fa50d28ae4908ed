"""Omniglot, notMNIST and Caltech-101 in the folders that their authors hand out."""

import io

import numpy as np
import pytest
from PIL import Image

from pp_jax.data.files import merge
from pp_jax.data.formats import handed_out
from pp_jax.data.types import DatasetCorrupt


def picture(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((10, 10), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_class_of_omniglot_is_a_character_of_an_alphabet():
    parts = {
        "images_background/Greek/character01/0394_01.png": picture(1),
        "images_background/Greek/character02/0395_01.png": picture(2),
        "images_background/Latin/character01/0684_01.png": picture(3),
        "images_evaluation/Tengwar/character01/0939_01.png": picture(4),
        "images_background_small1/Greek/character02/0395_01.png": picture(2),
        "images_background_small2/Greek/character02/0395_02.png": picture(5),
        "strokes_background/readme.png": picture(6),
    }
    raw = handed_out.read_omniglot(merge("data", parts))
    assert raw.class_names == ("Greek/character01", "Greek/character02", "Latin/character01", "Tengwar/character01")
    assert {s: y.tolist() for s, (_, y) in raw.splits.items()} == {"train": [0, 1, 1, 2], "test": [3]}
    assert raw.splits["train"][0][:, 0, 0, 0].tolist() == [1, 2, 5, 3]
    assert "dark on light" in raw.note
    assert raw.left_out == (
        "2 images outside the set's folders or there twice (images_background_small1/Greek/character02/0395_01.png, "
        "strokes_background/readme.png)",
    )
    parts["images_background_small2/Greek/character01/0394_01.png"] = picture(7)
    with pytest.raises(DatasetCorrupt, match="differ but have one place"):
        handed_out.read_omniglot(merge("data", parts))


def test_both_archives_of_notmnist_are_two_splits_and_one_alone_is_train():
    parts = {f"notMNIST_{part}/{c}/x.png": picture(n) for part in ("large", "small") for n, c in enumerate("AB")}
    raw = handed_out.read_notmnist(merge("data", parts))
    assert {s: y.tolist() for s, (_, y) in raw.splits.items()} == {"train": [0, 1], "test": [0, 1]}
    assert "notMNIST_small the split test" in raw.note
    alone = {name: data for name, data in parts.items() if "small" in name}
    assert list(handed_out.read_notmnist(merge("data", alone)).splits) == ["train"]


def test_caltech101_has_the_labels_of_tfds_and_tells_of_the_background():
    kinds = ("BACKGROUND_Google", "Faces", "accordion", "car_side")
    raw = handed_out.read_caltech101(merge("data", {f"101_ObjectCategories/{k}/1.jpg": picture(9) for k in kinds}))
    assert raw.class_names == ("accordion", "background_google", "car_side", "faces")
    assert "background_google, which is no kind of object, is a class" in raw.note
    assert "all images are in the split train" in raw.note
