"""Image folders: what is read has the right label; what is not read is told, and much of it is refused."""

import numpy as np
import pytest
from PIL import Image

from encoded import GREY, picture
from pp_jax.data.files import merge
from pp_jax.data.formats import folder, stack
from pp_jax.data.types import DatasetCorrupt

WHOLE = picture()


def read(names: str, changed: dict[str, bytes] | None = None, **options):
    return folder.read(merge("SET", dict.fromkeys(names.split(), WHOLE) | (changed or {})), 1, **options)


def many(count: int, folder_name: str = "A") -> str:
    return " ".join(f"{folder_name}/{index:02}.png" for index in range(count))


def test_pictures_of_many_formats_in_one_folder_are_all_read():
    image = Image.fromarray(GREY)
    kinds = {
        "a/1.png": "PNG",
        "a/2.PGM": "PPM",
        "b/3.tif": "TIFF",
        "b/4.gif": "GIF",
        "b/5.bmp": "BMP",
        "c/6.ppm": "PPM",
    }
    raw = read("", {name: picture(image, kind) for name, kind in kinds.items()})
    images, labels = raw.splits["train"]
    np.testing.assert_array_equal(images[..., 0], np.stack([GREY] * 6))
    assert labels.tolist() == [0, 0, 1, 1, 1, 2]
    assert (raw.class_names, raw.note, raw.left_out) == (("a", "b", "c"), "", ())


def test_a_few_broken_pictures_are_left_out_and_told():
    raw = read(many(19) + " B/1.png", {"A/00.png": b"", "A/03.png": WHOLE[:40]})
    assert raw.left_out == ("2 files that are no whole images (A/00.png, A/03.png)",)
    images, labels = raw.splits["train"]
    assert images.shape == (18, 8, 8, 1)
    assert labels.tolist() == [0] * 17 + [1]


def test_labels_stay_with_their_pictures_when_others_are_left_out():
    shades = {
        f"{name}/{i}.png": picture(np.full((4, 4), 10 * label + i, np.uint8))
        for label, name in enumerate("ABC")
        for i in range(8)
    }
    images, labels = read("", shades | {"A/0.png": b"x", "C/7.png": b"y"}).splits["train"]
    assert len(labels) == 22
    np.testing.assert_array_equal(images[:, 0, 0, 0] // 10, labels)


def test_more_than_a_tenth_of_broken_pictures_are_refused():
    with pytest.raises(
        DatasetCorrupt, match=r"SET/A/01\.png is not a whole image .*of 10 images at most a tenth may be"
    ):
        read(many(10), {"A/00.png": b"", "A/01.png": b""})
    with pytest.raises(DatasetCorrupt, match=r"SET/A/00\.png is not a whole image"):
        read(many(1), {"A/00.png": b""})


def test_each_reason_is_told_apart():
    deep = picture(GREY.astype(np.float32), "TIFF")
    raw = read(many(30), {"A/x.tif": deep, "A/y.png": b""})
    assert raw.left_out == (
        "1 image of floating-point values or of more than 16 bits a pixel (A/x.tif)",
        "1 file that is no whole image (A/y.png)",
    )


def test_what_was_done_to_pictures_is_noted():
    clear = np.zeros((8, 8, 4), np.uint8)
    raw = read("A/1.png", {"A/2.png": picture(clear), "A/3.png": picture(GREY.astype(np.uint16) * 257)})
    assert raw.note == (
        "1 image transparent and laid on white (A/2.png); "
        "1 image of 16 bits a pixel, of which the upper 8 are kept (A/3.png)"
    )


def test_a_class_of_one_split_only_is_told():
    raw = read("train/a/1.png train/b/1.png val/b/2.png")
    assert {split: labels.tolist() for split, (_, labels) in raw.splits.items()} == {"train": [0, 1], "validation": [1]}
    assert raw.note == "1 class without validation images (a)"


def test_a_class_of_which_no_picture_is_whole_keeps_its_label_and_is_told():
    raw = read(many(20, "B") + " C/1.png", {"A/1.png": b""})
    assert raw.class_names == ("A", "B", "C")
    assert np.bincount(raw.splits["train"][1]).tolist() == [0, 20, 1]
    assert "1 class without train images (A)" in raw.note


def test_whatever_is_in_no_split_is_told():
    changed = {"readme.txt": b"", "train/A/1.csv": b"", ".git/x.png": b"", "train/B/notes.md": b""}
    raw = read("top.png train/A/1.png test/2.png", changed)
    assert raw.left_out == (
        "1 hidden file or folder (.git)",
        "1 folder without images (train/B)",
        "1 image without a label, in no class folder (top.png)",
        "1 image of test without a label, in no class folder (test/2.png)",
        "3 files that are no images (readme.txt, train/A/1.csv, train/B/notes.md)",
    )


def test_tiny_imagenet_without_its_annotations_says_that_val_has_no_labels():
    root = "tiny-imagenet-200"
    places = ("train/n1/images/1.JPEG", "train/n2/images/2.JPEG", "val/images/3.JPEG", "test/images/4.JPEG")
    names = " ".join(f"{root}/{place}" for place in places)
    raw = read(names, {f"{root}/wnids.txt": b"n1\nn2\n"})
    assert list(raw.splits) == ["train"]
    assert raw.left_out == (
        f"1 image of test without a label, in no class folder ({root}/test/images/4.JPEG)",
        f"1 image of validation without a label, in no class folder ({root}/val/images/3.JPEG)",
    )


def test_tables_are_read_by_their_whole_name_with_or_without_a_byte_order_mark():
    tables = {"wnids.txt": b"\xef\xbb\xbfn1\r\nn2\r\n", "words.txt": b"n1\tgoldfish\n", "keywords.txt": b"n1\twrong\n"}
    raw = read("n1/1.png", tables)
    assert raw.class_names == ("goldfish", "n2")
    assert raw.left_out == ("1 file that is no image (keywords.txt)",)


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", "classes.tsv"])
def test_a_table_that_is_no_text_is_named(name):
    with pytest.raises(DatasetCorrupt, match=f"SET/{name} is not text in UTF-8"):
        read("n1/1.png", {name: b"n1\tfa\xe7ade\n"})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("1.png 2.png", r"2 images without a label, in no class folder \(1\.png, 2\.png\)"),
        ("train/1.png test/2.png", r"1 image of test without a label, in no class folder"),
        (".git/1.png", r"1 hidden file or folder \(\.git\)"),
        ("a/1.heic", r"1 file that is no image \(a/1\.heic\)"),
        ("", "it is empty"),
    ],
)
def test_nothing_to_read_says_what_is_there(names, message):
    with pytest.raises(DatasetCorrupt, match=f"SET holds no images in class folders .*{message}"):
        read(names)


def test_more_images_than_memory_holds_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(stack.os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 640}.__getitem__)
    assert len(read(many(10)).splits["train"][1]) == 10
    with pytest.raises(DatasetCorrupt, match=r"11 images of 8×8 in SET need .* choose a smaller size with --size"):
        read(many(11))


def test_the_order_is_that_of_the_names_within_a_split():
    names = "train/b/1.png train/a/2.png test/c/3.png"
    pixels = {name: picture(np.full((2, 2), shade, np.uint8)) for shade, name in enumerate(names.split())}
    raw = read("", pixels)
    assert {split: images[:, 0, 0, 0].tolist() for split, (images, _) in raw.splits.items()} == {
        "test": [2],
        "train": [1, 0],
    }
