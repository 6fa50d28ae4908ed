"""The journal of answers: whole after any cut, and never silently wrong."""

import numpy as np
import pytest

from others import found, strewn
from pp_jax.serving import Recorded, journal

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (9, 4, 4, 1), dtype=np.uint8)
ANSWERS = RNG.dirichlet(np.ones(3), 9).astype(np.float32)


def written(folder):
    """A journal of three batches."""
    with journal.opened(folder) as log:
        for first in (0, 3, 6):
            log.asking(3)
            log.answered(IMAGES[first : first + 3], ANSWERS[first : first + 3])
    return folder / "pp_jax-answers" / "queries.journal"


def test_what_is_read_is_what_was_written(tmp_path):
    written(tmp_path / "a")
    content = journal.read(tmp_path / "a")
    np.testing.assert_array_equal(content.transfer.images, IMAGES)
    np.testing.assert_array_equal(content.transfer.answers, ANSWERS)
    assert (content.transfer.images.dtype, content.transfer.answers.dtype) == (np.uint8, np.float32)
    assert (content.spent, content.damaged) == (9, 0)


def test_one_that_is_cut_anywhere_has_all_batches_before_the_cut_and_goes_on(tmp_path):
    path = written(tmp_path / "a")
    data, sizes = path.read_bytes(), set()
    for cut in range(0, len(data), 3):
        path.write_bytes(data[:cut])
        content = journal.read(tmp_path / "a")
        count = 0 if content.transfer is None else content.transfer.queries
        sizes.add(count)
        assert content.damaged == 0
        assert count <= content.spent
        if count:
            np.testing.assert_array_equal(content.transfer.answers, ANSWERS[:count])
        if cut % 99 == 0:
            with journal.opened(tmp_path / "a") as log:
                log.answered(IMAGES[:2], ANSWERS[:2])
            again = journal.read(tmp_path / "a").transfer
            np.testing.assert_array_equal(again.answers, np.concatenate([ANSWERS[:count], ANSWERS[:2]]))
    assert sizes == {0, 3, 6}


def test_a_flipped_bit_is_refused_by_what_goes_on_and_the_rest_can_still_be_used(tmp_path):
    path = written(tmp_path / "a")
    data = bytearray(path.read_bytes())
    place = data.index(ANSWERS[3].tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with (
        pytest.raises(ValueError, match=r"queries.journal has 1 damaged entries: move .*pp_jax-answers away"),
        journal.opened(tmp_path / "a"),
    ):
        pass
    assert path.read_bytes() == data
    with pytest.warns(UserWarning, match="1 damaged entries were left out"):
        api = Recorded(path.parent.rename(tmp_path / "moved"))
    np.testing.assert_array_equal(api.transfer.images, IMAGES[[0, 1, 2, 6, 7, 8]])


def test_a_folder_of_others_is_refused_and_stays(tmp_path):
    own = tmp_path / "pp_jax-answers"
    own.mkdir()
    (own / "queries.journal").write_text("precious")
    with (
        pytest.raises(ValueError, match="is there and keeps no answers of a prediction API of ours"),
        journal.opened(tmp_path),
    ):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["pp_jax-answers", "queries.journal"]
    assert (own / "queries.journal").read_text() == "precious"


def test_what_others_have_in_the_folder_stays(tmp_path):
    others = strewn(tmp_path)
    path = written(tmp_path)
    assert found(others) == others
    others |= {other: content for other, content in strewn(path.parent).items() if other.name != "lock"}
    with journal.opened(tmp_path) as log:
        log.answered(IMAGES[:1], ANSWERS[:1])
    assert journal.read(tmp_path).transfer.queries == 10
    assert found(others) == others


def test_a_full_disk_leaves_what_was_there_whole(tmp_path, monkeypatch):
    written(tmp_path / "a")
    before = (tmp_path / "a" / "pp_jax-answers" / "queries.journal").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with journal.opened(tmp_path / "a") as log:
        monkeypatch.setattr(journal.os, "fsync", full)
        with pytest.raises(OSError, match=r"cannot keep answers in .*queries.journal \(No space left on device\)"):
            log.answered(IMAGES[:1], ANSWERS[:1])
    assert (tmp_path / "a" / "pp_jax-answers" / "queries.journal").read_bytes() == before
