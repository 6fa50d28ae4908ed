"""`kill -9` at random moments of an evaluation: the same records and the same table, bit for bit."""

import signal
import time

import pytest

import children
import sharing
from lives import KILLS, SWEEP, claimed, survive, swept


@pytest.mark.slow
def test_an_evaluation_killed_again_and_again_ends_with_the_same_records_and_table(common, whole_sweep, tmp_path):
    runs, seen = survive("worst_case.py", SWEEP, tmp_path, common, sign=claimed, longest=0.6, seed=1)
    assert all(swept(folder) == whole_sweep[1] for folder in runs)
    begun = [len([lock for lock in locks if lock.parts[-3] == "worst_case"]) for locks in seen]
    print(f"{len(seen)} kills in {len(runs)} evaluations, after runs begun {begun}")
    assert len(seen) >= KILLS
    assert sum(map(bool, begun)) >= KILLS // 2  # The others fell into the training of the victim.


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What an evaluation comes to that nothing happens to."""
    return sharing.results(sharing.evaluate(tmp_path_factory.mktemp("whole")))


def _begun(process, folder):
    """Wait until a process has written its first record."""
    deadline = time.monotonic() + 60
    while process.poll() is None and not list(folder.glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
def test_one_that_is_killed_once_ends_with_the_same_records(expected, tmp_path):
    process = children.start("sharing.py", tmp_path)
    _begun(process, tmp_path)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert 0 < len(done) < len(expected)
    assert sharing.results(sharing.evaluate(tmp_path)) == expected
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_two_processes_on_one_folder_compute_each_run_once(expected, tmp_path):
    process = children.start("sharing.py", tmp_path)
    _begun(process, tmp_path)
    mine = sharing.evaluate(tmp_path)
    (others,) = children.results(process, timeout=60)
    assert sharing.results(mine) == expected
    assert sorted(others["computed"] + mine.computed) == sorted(path.stem for path in tmp_path.glob("*.json"))
    assert others["computed"]
