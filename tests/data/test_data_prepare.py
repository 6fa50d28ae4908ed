"""Preparing a set: what is no whole set is refused, and at whatever moment it ends nothing is left half-written."""

import dataclasses
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pp_jax.data import DataError, DatasetCorrupt, SourceUnavailable, load, prepare
from pp_jax.data.sources import Source
from pp_jax.data.types import Raw
from small_sets import RAW, multiset, random_raw, spec_of


def with_split(raw: Raw, images=None, labels=None) -> Raw:
    first_images, first_labels = raw.splits["train"]
    return dataclasses.replace(
        raw, splits={"train": (images or first_images, first_labels if labels is None else labels)}
    )


@pytest.mark.parametrize(
    ("raw", "counts", "message"),
    [
        (RAW, {"train": 41, "test": 11}, "41 images, but the source holds 40"),
        (RAW, {"train": 40, "test": 11, "extra": 7}, "split 'extra'"),
        (RAW, {"train": 40}, "test has 0 images"),
        (with_split(RAW, labels=np.full(40, 3)), None, r"0\.\.2, not 3"),
        (with_split(RAW, labels=np.full(40, -1)), None, r"0\.\.2, not -1"),
        (with_split(RAW, labels=np.zeros(39, int)), None, "40 integer labels"),
        (with_split(RAW, labels=np.zeros(40)), None, "integer labels, not float64"),
        (Raw({}), None, "no images"),
    ],
)
def test_a_source_that_is_not_the_set_is_refused_and_leaves_nothing(tmp_path, raw, counts, message):
    spec = dataclasses.replace(spec_of(RAW), make=lambda track: raw, counts=counts)
    with pytest.raises(DatasetCorrupt, match=message):
        prepare(spec, data_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".tiny_set.lock"]


def test_images_of_another_shape_are_refused(tmp_path):
    spec = dataclasses.replace(spec_of(RAW), shape=(28, 28, 1))
    with pytest.raises(DatasetCorrupt, match="28×28×1"):
        prepare(spec, data_dir=tmp_path)


def test_a_failed_renewal_leaves_the_old_set(fresh):
    _, root, directory = fresh
    before = (directory / "pp_jax.json").read_text()
    with pytest.raises(DatasetCorrupt):
        prepare(dataclasses.replace(spec_of(RAW), counts={"train": 1}), data_dir=root, force=True)
    assert (directory / "pp_jax.json").read_text() == before
    assert len(load("tiny_set", data_dir=root)) == 40


def test_what_is_prepared_is_not_prepared_again_unless_forced(fresh):
    _, root, directory = fresh
    other = spec_of(random_raw(seed=9))
    said = []
    assert prepare(other, data_dir=root, report=said.append) == directory
    assert "prepared already" in said[0]
    before = load("tiny_set", data_dir=root).images.copy()
    prepare(other, data_dir=root, force=True)
    assert (load("tiny_set", data_dir=root).images != before).any()


def test_sources_are_tried_in_order_and_reported(tmp_path):
    def unreachable(folder, report):
        raise SourceUnavailable("no connection")

    spec = dataclasses.replace(
        spec_of(RAW),
        make=None,
        read=lambda files: files,
        origins=(Source("official download", unreachable), Source("a package", lambda folder, report: RAW)),
    )
    said = []
    prepare(spec, data_dir=tmp_path, report=said.append)
    assert said[0] == "official download: no connection"
    assert "from a package in" in said[-1]
    spec = dataclasses.replace(spec, origins=spec.origins[:1], accepts="IDX files")
    with pytest.raises(SourceUnavailable, match=r"no connection.*IDX files.*--from PATH"):
        prepare(spec, data_dir=tmp_path, force=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "notmnist"}, SourceUnavailable, "no source of its own; give notMNIST_small.tar.gz"),
        ({"name": "mnits"}, DataError, "did you mean"),
        ({"name": "mnist", "source": "absent.zip"}, SourceUnavailable, "absent.zip"),
        ({"name": "mnist", "size": 20}, DataError, "--size does not apply"),
        ({"name": "tiny_imagenet", "size": 0}, ValueError, "at least 1"),
        ({"name": "font_letters", "source": "."}, DataError, "without --from"),
    ],
)
def test_options_that_do_not_apply_are_refused_before_any_work(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        prepare(**options, data_dir=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_data_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match=r"cannot be created.*--data-dir"):
            prepare(spec_of(RAW), data_dir=target)


def test_a_full_disk_is_seen_before_writing(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match="MB free"):
        prepare(spec_of(RAW), data_dir=tmp_path)


SCRIPT = """
import sys, time
sys.path.insert(0, {here!r})
from small_sets import random_raw, spec_of
from pp_jax.data import prepare

def slow(items, what, total):
    for item in items:
        time.sleep({pause})
        yield item

prepare(spec_of(random_raw({seed})), data_dir={root!r}, track=slow, force={force}, report=print)
"""


def start(root: Path, *, pause: float = 0.0, seed: int = 0, force: bool = False, limit: str = "") -> subprocess.Popen:
    """Prepare the set in another process."""
    script = limit + SCRIPT.format(
        here=str(Path(__file__).parents[1] / "helpers"), pause=pause, seed=seed, root=str(root), force=force
    )
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_prepare_one_set_leave_one_whole_set(tmp_path):
    workers = [start(tmp_path, pause=0.005, seed=seed, force=True) for seed in (0, 1)]
    outputs = [worker.communicate(timeout=60) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    dataset = load("tiny_set", data_dir=tmp_path)
    assert multiset(dataset.images, dataset.labels) in [multiset(*random_raw(seed).splits["train"]) for seed in (0, 1)]
    assert not list(tmp_path.glob("*incomplete*"))


def test_a_process_killed_while_writing_leaves_no_set_and_no_obstacle(tmp_path):
    worker = start(tmp_path, pause=0.2)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".tiny_set.incomplete/new/**/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker.kill()
    worker.communicate()
    assert list(tmp_path.glob(".tiny_set.incomplete"))
    with pytest.raises(DataError):
        load("tiny_set", data_dir=tmp_path)
    prepare(spec_of(RAW), data_dir=tmp_path)
    assert len(load("tiny_set", data_dir=tmp_path)) == 40
    assert not list(tmp_path.glob(".tiny_set.incomplete"))


def test_a_disk_that_fills_up_while_writing_leaves_nothing(tmp_path):
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
    worker = start(tmp_path, limit=limit)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode != 0
    assert "DataError" in said.splitlines()[-1], said
    assert [path.name for path in tmp_path.iterdir()] == [".tiny_set.lock"]


def test_threads_wait_for_one_another(tmp_path):
    said: list[str] = []

    def slow(items, what, total):
        for item in items:
            time.sleep(0.005)
            yield item

    def work():
        prepare(spec_of(RAW), data_dir=tmp_path, report=said.append, track=slow)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sentence.startswith("prepared tiny_set") for sentence in said) == 1
    assert any("waiting" in sentence for sentence in said)
    assert any("prepared already" in sentence for sentence in said)
