"""Photographs of many sizes, as their authors hand them out, are prepared at the size asked for and loaded whole."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from pp_jax.data import DataError, DatasetCorrupt, catalog, load, prepare
from pp_jax.data.files import merge
from pp_jax.data.formats import photographs


def photograph(height, width, level):
    """A grey JPEG."""
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), level, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def caltech256():
    root = "256_ObjectCategories/"
    return {
        root + "001.ak47/001_0001.jpg": photograph(20, 30, 10),
        root + "002.american-flag/002_0001.jpg": photograph(30, 20, 60),
        root + "002.american-flag/002_0002.jpg": photograph(25, 25, 110),
        root + "056.dog/greg/vision/left-over.jpg": photograph(9, 9, 160),
        root + "198.spider/RENAME2": b"",
        root + "257.clutter/257_0001.jpg": photograph(9, 9, 210),
    }


def birds():
    root = "CUB_200_2011/"
    names = [f"{kind}/{kind[4:]}_{i}.jpg" for kind in ("001.Albatross", "002.Auklet") for i in range(2)]
    tables = {
        "images.txt": "".join(f"{i} {name}\n" for i, name in enumerate(names, start=1)),
        "train_test_split.txt": "1 1\n2 0\n3 0\n4 1\n",
        "classes.txt": "1 001.Albatross\n2 002.Auklet\n",
    }
    return {f"{root}images/{name}": photograph(20 + i, 30, 50 * i) for i, name in enumerate(names)} | {
        root + name: text.encode() for name, text in tables.items()
    }


def plain():
    return {
        "train/n01440764/a.JPEG": photograph(20, 30, 10),
        "train/n01443537/b.JPEG": photograph(31, 20, 60),
        "val/n01440764/c.JPEG": photograph(40, 40, 90),
    }


def archive(path, parts):
    with tarfile.open(path, "w") as file:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def levels(dataset):
    """The images' grey levels, by class name."""
    names = np.array(dataset.class_names)[dataset.labels]
    return sorted((str(name), int(np.median(image))) for name, image in zip(names, dataset.images, strict=True))


SETS = [
    ("caltech256", caltech256, {"train": [("ak47", 10), ("american-flag", 60), ("american-flag", 110)]}),
    (
        "caltech_birds2011",
        birds,
        {
            "train": [("001.Albatross", 0), ("002.Auklet", 150)],
            "test": [("001.Albatross", 50), ("002.Auklet", 100)],
        },
    ),
    (
        "imagenet2012",
        plain,
        {"train": [("n01440764", 10), ("n01443537", 60)], "validation": [("n01440764", 90)]},
    ),
    ("caltech101", plain, {"train": [("n01440764", 10), ("n01443537", 60)], "validation": [("n01440764", 90)]}),
]


@pytest.mark.parametrize(("name", "parts", "expected"), SETS)
def test_photographs_of_many_sizes_are_prepared_at_224(tmp_path, name, parts, expected):
    source, root = archive(tmp_path / "set.tar", parts()), tmp_path / "data"
    prepare(name, source=source, size=224, data_dir=root)
    for split, content in expected.items():
        dataset = load(name, split, data_dir=root)
        assert (dataset.image_shape, dataset.images.dtype) == ((224, 224, 3), np.uint8)
        assert levels(dataset) == [(kind, pytest.approx(level, abs=2)) for kind, level in content]
    with pytest.raises(DataError, match="train"):
        load(name, "extra", data_dir=root)


@pytest.mark.parametrize(("name", "parts", "expected"), SETS)
def test_no_photograph_is_resized_unasked(tmp_path, name, parts, expected):
    with pytest.raises(DatasetCorrupt, match="choose a size with --size"):
        prepare(name, source=archive(tmp_path / "set.tar", parts()), data_dir=tmp_path / "data")


@pytest.mark.parametrize("name", ["caltech256", "caltech_birds2011", "imagenet2012"])
def test_a_set_that_only_the_user_can_give_says_what_it_takes(tmp_path, name):
    with pytest.raises(DataError, match=f"{name} has no source of its own; give .* prepare {name} --from PATH"):
        prepare(name, data_dir=tmp_path)


def test_birds_without_the_authors_table_are_an_image_folder():
    raw = photographs.read_birds(merge("set", plain()), 16)
    assert {split: len(labels) for split, (_, labels) in raw.splits.items()} == {"train": 2, "validation": 1}


def test_photographs_outside_the_authors_classes_are_told():
    raw = photographs.read_caltech256(merge("set", caltech256()), 16)
    assert raw.left_out == (
        "1 folder without images (256_ObjectCategories/198.spider)",
        "1 file that is no image (256_ObjectCategories/198.spider/RENAME2)",
        "2 images outside the 256 classes (256_ObjectCategories/056.dog/greg/vision/left-over.jpg, "
        "256_ObjectCategories/257.clutter/257_0001.jpg)",
    )
    parts = birds() | {"CUB_200_2011/segmentations/001.Albatross/Albatross_0.png": photograph(8, 8, 0), ".git/x": b""}
    raw = photographs.read_birds(merge("set", parts), 16)
    assert raw.left_out == (
        "1 hidden file or folder (.git)",
        "1 image outside the author's table (CUB_200_2011/segmentations/001.Albatross/Albatross_0.png)",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CUB_200_2011/images.txt": None}, r"lacks CUB_200_2011/images\.txt"),
        ({"CUB_200_2011/images/002.Auklet/Auklet_1.jpg": None}, "does not fit the images"),
        ({"CUB_200_2011/train_test_split.txt": b"1 1\n2 0\n"}, "does not fit the images"),
        ({"CUB_200_2011/images/002.Auklet/Auklet_1.jpg": b"no JPEG"}, "Auklet_1.jpg is not a whole image"),
    ],
)
def test_birds_that_do_not_fit_their_tables_are_refused(change, message):
    parts = {name: data for name, data in (birds() | change).items() if data is not None}
    with pytest.raises(DatasetCorrupt, match=message):
        photographs.read_birds(merge("set", parts), 16)


def test_the_pools_and_victims_of_the_paper_are_in_the_catalogue():
    names = {"mnist", "fashion_mnist", "emnist/letters", "cifar10", "cifar100"}
    names |= {"caltech_birds2011", "caltech256", "imagenet2012"}
    assert names <= catalog.specs().keys()
    assert catalog.find("emnist/letters").counts == {"train": 88_800, "test": 14_800}
