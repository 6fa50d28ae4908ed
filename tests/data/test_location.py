"""What lies where a set is to go: what this library did not write is never replaced."""

import os

import pytest

from pp_jax.data import DataError, load, location, prepare
from small_sets import RAW, spec_of


def of_tfds(directory, stored: str):
    """Make a prepared set one that TFDS prepared."""
    (directory / "pp_jax.json").unlink()
    path = directory / "dataset_info.json"
    path.write_text(path.read_text().replace('"array_record"', f'"{stored}"'))


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("force", [False, True])
def test_what_tfds_prepared_as_tfrecord_is_told_and_kept(fresh, force):
    _, root, directory = fresh
    of_tfds(directory, "tfrecord")
    before = contents(directory)
    with pytest.raises(DataError, match=r"prepared by TFDS as tfrecord.*--data-dir DIR, and TFDS_DATA_DIR=DIR"):
        prepare(spec_of(RAW), data_dir=root, force=force)
    assert contents(directory) == before


def test_what_tfds_prepared_as_array_record_is_used_and_not_replaced(fresh):
    _, root, directory = fresh
    of_tfds(directory, "array_record")
    before = contents(directory)
    assert prepare(spec_of(RAW), data_dir=root) == directory
    with pytest.raises(DataError, match="prepared by TFDS as array_record and is left as it is"):
        prepare(spec_of(RAW), data_dir=root, force=True)
    assert contents(directory) == before


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_prepared_set_is_kept(tmp_path, force):
    notes = tmp_path / "tiny_set" / "1.0.0" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(DataError, match="was not written by this library"):
        prepare(spec_of(RAW), data_dir=tmp_path, force=force)
    assert notes.read_text() == "mine"


def test_a_users_file_within_a_prepared_set_is_kept(fresh):
    _, root, directory = fresh
    (directory / "notes.txt").write_text("mine")
    (directory / ".DS_Store").write_text("")
    with pytest.raises(DataError, match=r"notes\.txt.*move them away"):
        prepare(spec_of(RAW), data_dir=root, force=True)
    (directory / "notes.txt").rename(root / "notes.txt")
    assert prepare(spec_of(RAW), data_dir=root, force=True) == directory


def test_of_several_versions_the_newest_that_can_be_read_counts(fresh):
    _, root, directory = fresh
    newer = prepare(spec_of(RAW, version="1.10.0"), data_dir=root, force=True)
    assert location.prepared(root, "tiny_set") == newer
    assert location.prepared(root, "tiny_set", "1.0.*") == directory
    of_tfds(newer, "tfrecord")
    assert location.prepared(root, "tiny_set") == directory
    assert [location.standing(path) for path in (directory, newer)] == ["1.0.0", "1.10.0 as tfrecord, not readable"]
    assert len(load("tiny_set", data_dir=root)) == 40
    assert prepare(spec_of(RAW), data_dir=root) == directory


def test_a_dangling_link_in_the_place_of_a_set_is_kept(tmp_path):
    place = tmp_path / "tiny_set" / "1.0.0"
    place.parent.mkdir()
    place.symlink_to(tmp_path / "absent")
    with pytest.raises(DataError, match="left as it is"):
        prepare(spec_of(RAW), data_dir=tmp_path, force=True)
    assert os.readlink(place) == str(tmp_path / "absent")
