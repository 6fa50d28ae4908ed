"""A sweep on a real Ray cluster of two workers, one of which is killed in the middle of a cell."""

import json
import time

import psutil
import pytest

from pp_jax import records
from scripts import SMALL, THEFT, ended, prepare_stripes, script, start

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="needs pp_jax[ray]")
GRID = (
    "--mad",
    ".5",
    "1.5",
    "--mad-argmax",
    "--reverse-sigmoid",
    "--random-noise",
    "--rounding",
    "--no-top-1",
    "--seeds",
    "0",
    "1",
)
CELLS = 8
TITLE = "ray::_cell"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return prepare_stripes(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def expected(data_dir, tmp_path_factory):
    """What one process finds."""
    runs = tmp_path_factory.mktemp("one")
    status, text = script("tradeoff.py", "--runs", runs, *SMALL, *THEFT, *GRID, data_dir=data_dir)
    assert status == 0, text
    return results(runs)


def results(runs):
    """Configuration and result of every cell."""
    cells = records.load_all(runs / "tradeoff", kind="tradeoff")
    return {json.dumps(cell.config, sort_keys=True): cell.result for cell in cells}


def at_work(driver):
    """Processes of the cluster that compute a cell at this moment."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if process.cmdline()[:1] == [TITLE]:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def sweep_with_a_death(runs, data_dir, *options):
    """Run the sweep on two workers; kill the first one that is seen at work half a second later."""
    driver = start("tradeoff.py", "--runs", runs, "--ray", "local", *options, *SMALL, *THEFT, *GRID, data_dir=data_dir)
    killed, deadline = None, time.monotonic() + 120
    while killed is None and driver.poll() is None and time.monotonic() < deadline:
        if len(workers := at_work(driver.pid)) == 2:
            time.sleep(0.5)
            if workers[0].cmdline()[:1] == [TITLE]:
                workers[0].kill()
                killed = (workers[0].pid, len(list((runs / "tradeoff").glob("*.json"))))
        time.sleep(0.05)
    return *ended(driver, timeout=300), killed


def test_a_cell_whose_worker_is_killed_is_begun_again(data_dir, expected, tmp_path):
    status, text, killed = sweep_with_a_death(tmp_path, data_dir)
    assert killed is not None, text
    assert killed[1] < CELLS
    assert status == 0, text
    assert len(expected) == CELLS
    assert results(tmp_path) == expected


def test_a_cell_that_fails_for_good_is_told_after_the_others_and_the_same_command_completes_it(
    data_dir, expected, tmp_path
):
    status, text, killed = sweep_with_a_death(tmp_path, data_dir, "--retries", "0")
    assert killed is not None, text
    assert status == 1
    assert "error: 1 of 8 cells failed, the first is stripes, knockoff, " in text
    assert "its worker died 1 times (WorkerCrashedError)" in text
    assert len(results(tmp_path)) == CELLS - 1
    status, text = script("tradeoff.py", "--runs", tmp_path, *SMALL, *THEFT, *GRID, data_dir=data_dir)
    assert status == 0, text
    assert results(tmp_path) == expected


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense"])
def test_a_cluster_that_does_not_answer_is_one_clear_error(data_dir, tmp_path, address):
    status, text = script(
        "tradeoff.py", "--runs", tmp_path, "--ray", address, *SMALL, *THEFT, *GRID, data_dir=data_dir, timeout=60
    )
    assert status == 1
    assert text.startswith(f"error: ray is {address}: no cluster answers there")
    assert not list(tmp_path.glob("**/*.json"))
