"""Prepared sets: whole, readable by TFDS itself, loaded as they are; damage is one error with its cure."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import pp_jax.data
from pp_jax.data import DataError, DatasetCorrupt, DatasetMissing, catalog, load, location, prepare, store
from small_sets import RAW, multiset, random_raw, spec_of


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """One prepared set that no test alters, its arrays and its data directory."""
    root, raw = tmp_path_factory.mktemp("data"), random_raw()
    prepare(spec_of(raw), data_dir=root)
    return raw, root


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_prepared_set_holds_the_images_and_labels_of_its_source(prepared, split):
    raw, root = prepared
    dataset = load("tiny_set", split, data_dir=root)
    assert multiset(dataset.images, dataset.labels) == multiset(*raw.splits[split])
    assert dataset.class_names == raw.class_names
    assert (dataset.num_classes, dataset.image_shape, len(dataset)) == (3, (8, 6, 1), len(raw.splits[split][1]))
    assert (dataset.images.dtype, dataset.labels.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "emnist/letters", "cifar10", "cifar100"])
def test_plain_tfds_reads_an_official_set_with_all_its_features(tmp_path, name):
    spec = catalog.find(name)
    raw = random_raw(shape=spec.shape, classes=len(spec.class_names), counts={"train": 12, "test": 3})
    raw = dataclasses.replace(raw, class_names=None)
    prepare(dataclasses.replace(spec, make=lambda track: raw, counts=None), data_dir=tmp_path)
    source = tfds.data_source(name, split="train", data_dir=tmp_path, download=False)
    dataset = load(name, data_dir=tmp_path)
    for index, example in enumerate(source):
        np.testing.assert_array_equal(example["image"], dataset.images[index])
        assert example["label"] == dataset.labels[index]
        if spec.coarse:
            assert example["coarse_label"] == spec.coarse[1][example["label"]]
    assert {"id", "coarse_label"} & set(example) == ({"id"} if spec.ids else set()) | (
        {"coarse_label"} if spec.coarse else set()
    )


def test_slices_follow_tfds(prepared):
    _, root = prepared
    whole = load("tiny_set", data_dir=root)
    for split, expected in {
        "train[:10]": slice(10),
        "train[75%:]": slice(30, None),
        "train[-4:]": slice(-4, None),
        "train[:0]": slice(0),
    }.items():
        np.testing.assert_array_equal(load("tiny_set", split, data_dir=root).images, whole.images[expected])
    both = load("tiny_set", "train[:2]+test", data_dir=root)
    np.testing.assert_array_equal(both.images[2:], load("tiny_set", "test", data_dir=root).images)
    assert len(load("tiny_set", "all", data_dir=root)) == 51
    np.testing.assert_array_equal(whole.take(5).images, whole[:5].images)


def test_a_set_without_a_record_is_decoded_from_its_records_in_the_same_order(fresh):
    _, root, directory = fresh
    mapped = load("tiny_set", "train[5:20]", data_dir=root)
    (directory / "pp_jax.json").unlink()
    decoded = load("tiny_set", "train[5:20]", data_dir=root)
    np.testing.assert_array_equal(decoded.images, mapped.images)
    np.testing.assert_array_equal(decoded.labels, mapped.labels)


def test_loaded_arrays_are_read_only(prepared):
    dataset = load("tiny_set", data_dir=prepared[1])
    with pytest.raises(ValueError, match="read-only"):
        dataset.images[0] = 0


def test_the_data_directory_is_the_one_of_tfds(monkeypatch, prepared):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared[1]))
    assert len(load("tiny_set")) == 40
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert location.data_dir() == Path("~/tensorflow_datasets").expanduser()


def test_class_names_that_occur_twice_are_told_apart(tmp_path):
    raw = dataclasses.replace(random_raw(), class_names=("crane", "ray", "crane"))
    prepare(spec_of(raw), data_dir=tmp_path)
    assert load("tiny_set", data_dir=tmp_path).class_names == ("crane (0)", "ray", "crane (2)")


@pytest.mark.parametrize(
    ("name", "split", "error", "message"),
    [
        ("mnist", "train", DatasetMissing, "python -m pp_jax.data prepare mnist"),
        ("notmnist", "train", DatasetMissing, "prepare notmnist --from PATH"),
        ("mnits", "train", DataError, "did you mean 'mnist'"),
        ("qqq", "train", DataError, "font_letters"),
        ("tiny_set", "validation", DatasetMissing, "train, test"),
        ("tiny_set", "train[:a]", ValueError, "train\\[:1000\\]"),
        ("tiny_set", "train[:41]", ValueError, "40"),
        ("tiny_set", ["train", "test"], ValueError, "each split by itself"),
        ("tiny_set", None, ValueError, "each split by itself"),
        ("tiny_set:2.*.*", "train", DatasetMissing, r"as version 1\.0\.0, not 2"),
        ("MNIST:3.0.1", "train", DatasetMissing, "prepare mnist"),
        ("emnist", "train", DataError, "'emnist/byclass' or 'emnist/bymerge'"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_sentence(prepared, name, split, error, message):
    with pytest.raises(error, match=message):
        load(name, split, data_dir=prepared[1])


@pytest.mark.parametrize(
    "name",
    [
        "tiny_set-train.array_record-00000-of-00001",
        "decoded/train_images.npy",
        "decoded/train_labels.npy",
        "features.json",
        "dataset_info.json",
        "label.labels.txt",
    ],
)
@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_damage_to_any_file_is_one_error_with_file_and_cure(fresh, name, damage):
    raw, root, directory = fresh
    path = directory / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.unlink() if damage == "delete" else path.write_bytes(data[:-1] if damage == "cut" else data)
    with pytest.raises(DatasetCorrupt) as caught:
        load("tiny_set", data_dir=root)
    assert str(path) in str(caught.value)
    assert "prepare tiny_set --force" in str(caught.value)
    prepare(spec_of(raw), data_dir=root, force=True)
    assert len(load("tiny_set", data_dir=root)) == 40


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "delete"])
def test_damaged_records_of_a_set_that_tfds_prepared_are_one_error(fresh, damage):
    _, root, directory = fresh
    (directory / "pp_jax.json").unlink()
    path = directory / "tiny_set-train.array_record-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[100:300] = bytes(200)
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    with pytest.raises(DatasetCorrupt, match=f"{path.name}.*prepare tiny_set --data-dir DIR"):
        load("tiny_set", data_dir=root)


def test_the_cure_names_the_configuration(tmp_path):
    directory = prepare(spec_of(RAW, "tiny_set/small"), data_dir=tmp_path)
    assert directory == tmp_path / "tiny_set" / "small" / "1.0.0"
    assert list(location.all_prepared(tmp_path)) == ["tiny_set/small"]
    assert len(load("tiny_set/small", data_dir=tmp_path)) == 40
    (directory / "tiny_set-train.array_record-00000-of-00001").write_bytes(b"")
    with pytest.raises(DatasetCorrupt, match="prepare tiny_set/small --force"):
        load("tiny_set/small", data_dir=tmp_path)
    (directory / "pp_jax.json").unlink()
    with pytest.raises(DatasetCorrupt, match="prepare tiny_set/small --data-dir DIR"):
        load("tiny_set/small", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["pp_jax.json", "dataset_info.json", "features.json"])
def test_a_description_that_is_not_json_is_one_error(fresh, name):
    _, root, directory = fresh
    (directory / name).write_text("{")
    if name != "pp_jax.json":
        (directory / "pp_jax.json").unlink()
    with pytest.raises(DatasetCorrupt, match=str(directory)):
        load("tiny_set", data_dir=root)


def test_a_set_in_a_format_without_random_access_is_one_error(fresh):
    _, root, directory = fresh
    path = directory / "dataset_info.json"
    path.write_text(path.read_text().replace('"array_record"', '"tfrecord"'))
    (directory / "pp_jax.json").unlink()
    with pytest.raises(DataError, match=r"tfrecord.*prepare tiny_set --data-dir DIR"):
        load("tiny_set", data_dir=root)


@pytest.mark.parametrize("name", ["tiny_set:1.0.0", "tiny_set:1.*.*", "tiny_set/1.0.0"])
def test_a_version_may_be_asked_for(prepared, name):
    assert load(name, data_dir=prepared[1]).name == "tiny_set"


def test_photographs_of_many_sizes_that_tfds_prepared_are_one_error(tmp_path):
    with tfds.core.registered.skip_registration():

        class Photographs(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            code_path = None

            def _info(self):
                features = {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(num_classes=2),
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for side in (4, 5):
                    yield side, {"image": store.png(np.zeros((side, 7, 3), np.uint8)), "label": 0}

    Photographs(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    with pytest.raises(DataError, match=r"differ in size.*--size"):
        load("photographs", data_dir=tmp_path)


def test_importing_the_package_imports_no_slow_library():
    code = "import sys, pp_jax.data; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow_datasets", "PIL", "scipy", "matplotlib"} & set(done.stdout.split()) - set(_of_jax())
    assert all(callable(getattr(pp_jax.data, name)) for name in pp_jax.data.__all__)


def _of_jax() -> list[str]:
    """What importing JAX and the rest of the library brings along."""
    code = "import sys, pp_jax; print(*sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
