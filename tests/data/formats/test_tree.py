"""Splits and classes from names: by any usual name, never two classes merged, never an image that vanishes."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pp_jax.data.formats import tree
from pp_jax.data.types import DatasetCorrupt


def sort(names: str, *bare: str) -> tree.Layout:
    return tree.sort("SET", names.split(), bare)


def classes(names: str) -> dict[str, dict[str, int]]:
    """How many images there are, by split and class."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for split, folder, _ in sort(names).entries:
        found[split][folder] += 1
    return {split: dict(counts) for split, counts in found.items()}


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            "train",
            "train Train TRAIN training Training train2017 train_images TrainImages trainset Final_Training seg_train",
        ),
        ("train", "ILSVRC2012_img_train images-train trainval x_train mini_train"),
        ("validation", "val valid validation Val val2017 val_images dev development validate imagenet_val"),
        ("test", "test Test testing Testing test2017 test_images eval evaluation eval_data testset Final_Test"),
    ],
)
def test_splits_go_by_any_usual_name(split, names):
    assert {tree.split_of(name) for name in names.split()} == {split}


@pytest.mark.parametrize(
    "name",
    [
        "bullet_train",
        "test_tube",
        "trainer",
        "dev_board",
        "valley",
        "protest",
        "evaluator",
        "image",
        "cat",
        "0",
        "trained",
        "attest",
    ],
)
def test_classes_that_resemble_splits_are_none(name):
    assert tree.split_of(name) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("A/1.png B/2.png", {"train": {"A": 1, "B": 1}}),
        ("set/A/1.png set/B/2.png", {"train": {"A": 1, "B": 1}}),
        ("set/train/A/1.png set/test/A/2.png", {"train": {"A": 1}, "test": {"A": 1}}),
        ("Training/A/1.png Testing/A/2.png", {"train": {"A": 1}, "test": {"A": 1}}),
        ("train/images/A/1.png val/images/A/2.png", {"train": {"A": 1}, "validation": {"A": 1}}),
        ("seg_train/seg_train/A/1.png seg_test/seg_test/A/2.png", {"train": {"A": 1}, "test": {"A": 1}}),
        ("test/train/A/1.png test/val/A/2.png", {"train": {"A": 1}, "validation": {"A": 1}}),
        ("n1/images/1.png n2/images/2.png", {"train": {"n1": 1, "n2": 1}}),
        ("A/images/1.png", {"train": {"A": 1}}),
        ("train/dog/pug/1.png train/dog/lab/1.png train/fox/lab/1.png", {"train": {"dog": 2, "fox": 1}}),
        ("train/train/1.png train/bus/2.png test/train/3.png", {"train": {"train": 1, "bus": 1}, "test": {"train": 1}}),
        ("train/letters/A/1.png train/letters/B/2.png test/set/A/3.png", {"train": {"A": 1, "B": 1}, "test": {"A": 1}}),
        ("train/dog/pug/1.png train/cat/2.png test/dog/pug/3.png", {"train": {"dog": 1, "cat": 1}, "test": {"dog": 1}}),
        ("train/A/1.png test/test/2.png", {"train": {"A": 1}}),
        ("bullet_train/1.png test_tube/2.png", {"train": {"bullet_train": 1, "test_tube": 1}}),
        ("Cat/1.png cat/2.png", {"train": {"Cat": 1, "cat": 1}}),
    ],
)
def test_the_class_is_the_first_folder_below_the_split(names, expected):
    assert classes(names) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("train/x.png bus/y.png test/z.png", "SET holds test and train beside bus: if all are classes"),
        ("train/steam/1.png bus/2.png car/3.png", "SET holds train beside bus and car"),
        ("A/train/1.png A/test/2.png B/train/3.png", "holds splits below other folders .A/test, A/train and B/train"),
        ("small/A/1.png small/B/2.png large/A/3.png large/B/4.png", "large and small each hold the folders A and B"),
        ("images/A/1.png images/B/2.png masks/A/1.png masks/B/2.png", "images and masks each hold the folders A and B"),
        ("/".join("a" * 60) + "/1.png", "60 folders deep"),
    ],
)
def test_what_can_mean_several_things_is_refused(names, message):
    with pytest.raises(DatasetCorrupt, match=message):
        sort(names)


def test_images_without_a_class_or_a_split_are_told():
    layout = sort("top.png set/other.png set/train/A/1.png set/train/2.png set/test/3.png set/docs/4.png")
    assert layout.unsorted == {
        "": ("set/other.png", "top.png"),
        "train": ("set/train/2.png",),
        "test": ("set/test/3.png",),
    }
    assert layout.left_out == ("1 image outside the splits (set/docs/4.png)",)
    assert sort("x/1.png train/A/2.png train/A/3.png set.png").entries == (
        ("train", "A", "train/A/2.png"),
        ("train", "A", "train/A/3.png"),
    )


@pytest.mark.parametrize(
    ("names", "unsorted"),
    [
        ("images/1.png", {"": ("images/1.png",)}),
        ("train/1.png train/images/A/2.png", {"train": ("train/1.png",)}),
        ("train/set/1.png train/set/A/2.png", {"train": ("train/set/1.png",)}),
        ("train/1.png train/set/A/2.png test/3.png", {"train": ("train/1.png",), "test": ("test/3.png",)}),
        ("train/A/1.png test/test/2.png", {"test": ("test/test/2.png",)}),
        ("a.png set/b.png set/A/1.png", {"": ("a.png", "set/b.png")}),
    ],
)
def test_images_beside_the_way_to_the_classes_are_told(names, unsorted):
    assert sort(names).unsorted == unsorted


@given(st.lists(st.lists(st.sampled_from(["train", "test", "images", "A", "B", "set"]), max_size=5), max_size=8))
def test_every_image_has_a_class_or_is_told(folders):
    names = ["/".join([*parts, f"{index}.png"]) for index, parts in enumerate(folders)]
    try:
        layout = sort(" ".join(names))
    except DatasetCorrupt:
        return
    told = [name for found in layout.unsorted.values() for name in found]
    outside = sum(int(phrase.split()[0]) for phrase in layout.left_out)
    assert len(layout.entries) + len(told) + outside == len(names)
    assert len({name for _, _, name in layout.entries} | set(told)) + outside == len(names)


def test_folders_without_images_are_told():
    layout = sort("train/A/1.png test/A/2.png", "train/B", "val", "train/A/deep", "elsewhere/C")
    assert layout.left_out == ("3 folders without images (elsewhere, train/B, val)",)


def test_what_is_noteworthy_about_folders_is_told():
    assert sort("train/dog/pug/1.png train/dog/lab/1.png train/cat/images/1.png").notes == (
        "2 folders within classes (dog/lab, dog/pug) count as the class above",
    )
    assert sort("test/A/1.png eval/A/2.png").notes == ("test is eval and test together",)
    assert sort("train/Cat/1.png test/cat/2.png").notes == (
        "Cat and cat are two classes, though they differ in case alone",
    )
    assert sort("train/A/1.png test/A/2.png").notes == ()
