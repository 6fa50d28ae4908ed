"""An evaluation on a real Ray cluster of two workers, one of which is killed in the middle of a run."""

import json
import sys
import time

import psutil
import pytest

from lives import RUNS, SWEEP
from pp_jax import records
from pp_jax.evaluation import Machines, ray_cluster
from scripts import ended, prepare_stripes, script, start

pytest.importorskip("ray", reason="needs pp_jax[ray]")
TITLE = "ray::_call"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return prepare_stripes(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def expected(data_dir, tmp_path_factory):
    """What one process finds."""
    runs = tmp_path_factory.mktemp("one")
    status, text = script("worst_case.py", "--runs", runs, *SWEEP, data_dir=data_dir)
    assert status == 0, text
    return results(runs)


def results(runs):
    """Configuration and result of every run."""
    found = records.load_all(runs / "worst_case", kind="tradeoff")
    return {json.dumps(run.config, sort_keys=True): run.result for run in found}


def at_work(driver):
    """Processes of the cluster that compute a run at this moment."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if process.cmdline()[:1] == [TITLE]:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def evaluated_with_a_death(runs, data_dir, *options):
    """Evaluate on two workers; kill the first one that is seen at work half a second later."""
    driver = start("worst_case.py", "--runs", runs, "--ray", "local", *options, *SWEEP, data_dir=data_dir)
    killed, deadline = None, time.monotonic() + 120
    while killed is None and driver.poll() is None and time.monotonic() < deadline:
        if len(workers := at_work(driver.pid)) == 2:
            time.sleep(0.5)
            if workers[0].cmdline()[:1] == [TITLE]:
                workers[0].kill()
                killed = (workers[0].pid, len(list((runs / "worst_case").glob("*.json"))))
        time.sleep(0.05)
    return *ended(driver, timeout=300), killed


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_is_begun_again(data_dir, expected, tmp_path):
    status, text, killed = evaluated_with_a_death(tmp_path, data_dir)
    assert killed is not None, text
    assert killed[1] < RUNS
    assert status == 0, text
    assert "Traceback" not in text
    assert len(expected) == RUNS
    assert results(tmp_path) == expected


@pytest.mark.slow
def test_a_run_that_fails_for_good_is_told_after_the_others_and_the_same_command_completes_it(
    data_dir, expected, tmp_path
):
    status, text, killed = evaluated_with_a_death(tmp_path, data_dir, "--retries", "0")
    assert killed is not None, text
    assert status == 1
    assert f"error: 1 of {RUNS} runs failed, the first is " in text
    assert "its worker died 1 times (WorkerCrashedError)" in text
    assert len(results(tmp_path)) == RUNS - 1
    status, text = script("worst_case.py", "--runs", tmp_path, *SWEEP, data_dir=data_dir)
    assert status == 0, text
    assert results(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense"])
def test_a_cluster_that_does_not_answer_is_one_clear_error(data_dir, tmp_path, address):
    status, text = script("worst_case.py", "--runs", tmp_path, "--ray", address, *SWEEP, data_dir=data_dir, timeout=60)
    assert status == 1
    assert text.startswith(f"error: ray is {address}: no cluster answers there")
    assert not list(tmp_path.glob("**/*.json"))


class Cluster:
    """In place of Ray: tasks are done when waited for; those of some items die, or fail."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            cause = ValueError("no such thing")

    def __init__(self, **ends):
        self.ends = ends
        self.reserved = {}

    def remote(self, **reserved):
        self.reserved = reserved
        return lambda call: self._Task(call)

    class _Task:
        def __init__(self, call):
            self.remote = lambda function, item: (call, function, item)

    def put(self, value):
        return value

    def wait(self, tasks, num_returns):
        return tasks[-1:], tasks[:-1]

    def get(self, task):
        call, function, item = task
        if item in self.ends:
            raise self.ends[item]
        return call(function, item)


def test_what_fails_on_a_cluster_is_told_when_all_others_are_done(monkeypatch):
    ends = {"b": Cluster.exceptions.RayError(), "c": Cluster.exceptions.RayTaskError()}
    machines = Machines(ray="x", retries=2, gpus=0.5)
    for dying, message in (
        (["b"], r"1 of 4 .* first is B: its worker died 3 times"),
        (["b", "c"], "2 of 4 .* no such"),
    ):
        cluster, done = Cluster(**{name: ends[name] for name in dying}), {}
        monkeypatch.setattr(ray_cluster, "connect", lambda address: None)
        monkeypatch.setitem(sys.modules, "ray", cluster)
        with pytest.raises(ValueError, match=message):
            done.update(ray_cluster.mapped(lambda item: 2 * item, "abcd", machines, str.upper))
        assert done == {item: 2 * item for item in "abcd" if item not in dying}
        assert cluster.reserved == {"num_cpus": 1.0, "num_gpus": 0.5, "max_retries": 2}


def test_an_address_where_nobody_listens_is_one_error_at_once():
    with pytest.raises(ValueError, match=r"ray is 127.0.0.1:9: no cluster answers there"):
        ray_cluster.connect("127.0.0.1:9")
