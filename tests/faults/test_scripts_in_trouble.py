"""A full disk, a folder in the way, a clock that runs backwards, company on one folder: the scripts say or bear it."""

import collections
import json
import os
import resource
import shutil
import sys
import time

import pytest

import sharing
from experiments import train_victim, victims, worst_case
from lives import RUNS, SWEEP, TRAINING, kept, killed, swept, trained
from scripts import ended, script, start

BACKWARDS = """
import datetime, itertools, time
steps = itertools.count()
def now(): return 1.6e9 - 3600 * next(steps)
class Backwards(datetime.datetime):
    __slots__ = ()
    now = classmethod(lambda kind, tz=None: kind.fromtimestamp(now(), tz))
    utcnow = classmethod(lambda kind: kind.utcfromtimestamp(now()))
time.time, time.time_ns, datetime.datetime = now, lambda: int(1e9 * now()), Backwards
"""
FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
"""
WRITES = """
import os
replace = os.replace
def logged(source, target, **options):
    replace(source, target, **options)
    with open(os.environ["WRITES"], "a") as log:
        log.write(f"{os.getpid()} {os.path.basename(target)}\\n")
os.replace = logged
"""


def with_start(common, folder, code, **variables):
    """What processes share, and code that each of them runs before all else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return {**common, "environment": {**common["environment"], "PYTHONPATH": str(folder), **variables}}


def one_error(text):
    """The error that a script ends with; it may say nothing else."""
    assert "Traceback" not in text
    assert text.count("error") == 1, text
    return text[text.index("error: ") :]


@pytest.mark.slow
def test_a_disk_that_fills_in_training_is_one_error_and_the_same_command_goes_on(common, whole_training, tmp_path):
    full = with_start(common, tmp_path / "start", FULL.format(500_000))
    process = start("train_victim.py", "--runs", tmp_path, *TRAINING, **common)
    assert killed(process, lambda: len(kept(tmp_path)) == 2, 0)
    before = sorted(path.parent.name for path in kept(tmp_path))
    status, text = script("train_victim.py", "--runs", tmp_path, *TRAINING, **full)
    assert status == 1
    assert "cannot keep the state of training in" in one_error(text)
    assert "with room for 3 checkpoints of 3.2 MB" in one_error(text)
    assert sorted(path.parent.name for path in kept(tmp_path)) == before
    status, text = script("train_victim.py", "--runs", tmp_path, *TRAINING, **common)
    assert status == 0, text
    assert trained(tmp_path) == whole_training


@pytest.mark.slow
def test_a_full_disk_stops_an_evaluation_before_work_and_what_it_has_stays(common, whole_sweep, tmp_path):
    runs = shutil.copytree(whole_sweep[0], tmp_path / "runs")
    for path in sorted((runs / "worst_case").glob("*.json"))[:3]:
        path.unlink()
    left = {path: path.read_bytes() for path in runs.rglob("*.json")}
    full = with_start(common, tmp_path / "start", FULL.format(100_000))
    status, text = script("worst_case.py", "--runs", runs, *SWEEP, **full)
    assert status == 1
    assert "its folder must be writable, with room for the whole file" in one_error(text)
    assert {path: path.read_bytes() for path in runs.rglob("*.json")} == left
    status, text = script("worst_case.py", "--runs", runs, *SWEEP, **common)
    assert status == 0, text
    assert swept(runs) == whole_sweep[1]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("train_victim.py", TRAINING), ("worst_case.py", SWEEP)])
def test_a_folder_that_cannot_be_written_is_one_error(name, options, common, tmp_path):
    (tmp_path / "file").write_text("in the way")
    status, text = script(name, "--runs", tmp_path / "file" / "runs", *options, **common)
    assert status == 1
    assert str(tmp_path / "file" / "runs") in one_error(text)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_clock_that_runs_backwards_changes_no_training_also_not_a_killed_one(common, whole_training, tmp_path):
    strange = with_start(common, tmp_path / "start", BACKWARDS)
    process = start("train_victim.py", "--runs", tmp_path / "runs", *TRAINING, **strange)
    assert killed(process, lambda: kept(tmp_path / "runs"), 0.3)
    status, text = script("train_victim.py", "--runs", tmp_path / "runs", *TRAINING, **strange)
    assert status == 0, text
    (record,) = (tmp_path / "runs" / "victims").glob("*.json")
    assert json.loads(record.read_text())["environment"]["time"] < "2021"  # The clock did reach the process.
    assert trained(tmp_path / "runs") == whole_training


@pytest.mark.slow
def test_a_clock_that_runs_backwards_changes_no_evaluation(common, whole_sweep, tmp_path):
    strange = with_start(common, tmp_path / "start", BACKWARDS)
    status, text = script("worst_case.py", "--runs", tmp_path / "runs", *SWEEP, **strange)
    assert status == 0, text
    assert swept(tmp_path / "runs") == whole_sweep[1]


@pytest.mark.slow
def test_of_two_that_train_one_victim_one_trains_and_the_other_waits_and_loads(common, whole_training, tmp_path):
    processes = [start("train_victim.py", "--runs", tmp_path, *TRAINING, **common) for _ in range(2)]
    ends = [ended(process) for process in processes]
    assert [status for status, _ in ends] == [0, 0], ends
    assert sorted("training the victim" in text for _, text in ends) == [False, True]
    assert all("test accuracy 100.00 %" in text for _, text in ends)
    assert trained(tmp_path) == whole_training


@pytest.mark.slow
def test_one_that_waits_for_a_victim_goes_on_with_it_when_the_first_is_killed(common, whole_training, tmp_path):
    first = start("train_victim.py", "--runs", tmp_path, *TRAINING, **common)
    deadline = time.monotonic() + 120
    while not kept(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    second = start("train_victim.py", "--runs", tmp_path, *TRAINING, **common)
    assert killed(first, lambda: True, 0.5)
    status, text = ended(second)
    assert status == 0, text
    assert "training the victim" in text
    assert trained(tmp_path) == whole_training


@pytest.mark.slow
def test_two_evaluations_on_one_folder_compute_each_run_once_and_end_with_the_same_table(common, whole_sweep, tmp_path):
    log = tmp_path / "writes"
    heard = with_start(common, tmp_path / "start", WRITES, WRITES=os.fspath(log))
    processes = [start("worst_case.py", "--runs", tmp_path / "runs", *SWEEP, **heard) for _ in range(2)]
    ends = [ended(process) for process in processes]
    assert [status for status, _ in ends] == [0, 0], ends
    assert swept(tmp_path / "runs") == whole_sweep[1]
    writes = [line.split() for line in log.read_text().splitlines() if line.endswith(".json")]
    times = collections.Counter(name for _, name in writes if name != "seal.json")
    assert len(times) == RUNS + 1  # All runs and the victim,
    assert set(times.values()) == {1}  # each of them once.
    by = collections.Counter(process for process, name in writes if name != "seal.json")
    print(f"runs by process: {sorted(by.values())}")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"{", b'"attacker_accuracy": 0.'])
def test_a_damaged_record_is_computed_again_with_one_warning(damage, common, whole_sweep, tmp_path):
    runs = shutil.copytree(whole_sweep[0], tmp_path / "runs")
    path = sorted((runs / "worst_case").glob("*.json"))[3]
    text = path.read_bytes()
    path.write_bytes(text.replace(damage, b'"attacker_accuracy": 1.', 1) if len(damage) > 1 else damage)
    assert path.read_bytes() != text
    status, text = script("worst_case.py", "--runs", runs, *SWEEP, warnings="default", **common)
    assert status == 0, text
    assert text.count("Warning") == text.count(f"{path}") == 1
    assert swept(runs) == whole_sweep[1]


@pytest.mark.slow
def test_a_damaged_record_is_computed_again(tmp_path):
    whole = sharing.results(sharing.evaluate(tmp_path))
    path = sorted(tmp_path.glob("*.json"))[5]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=path.name) as heard:
        again = sharing.evaluate(tmp_path)
    assert len(heard) == 1
    assert again.computed == [path.stem]
    assert sharing.results(again) == whole


@pytest.fixture
def call(data_dir, monkeypatch):
    """Calls the main of a script of whom no victim will be trained; what it ends with."""
    monkeypatch.setattr(victims, "_fit", lambda *_: pytest.fail("a victim was trained"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))

    def ends(main, *options):
        monkeypatch.setattr(sys, "argv", ["script", *map(str, options)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code.count("\n") == 0
        return end.value.code

    return ends


@pytest.mark.parametrize(("script", "options"), [(train_victim, TRAINING), (worst_case, SWEEP)])
def test_a_full_disk_and_a_folder_in_the_way_are_one_line_before_work(script, options, call, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        text = call(script.main, *options, "--runs", tmp_path / "runs")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert text.startswith("error: cannot write ")
    assert "with room for the whole file" in text
    assert not list(tmp_path.rglob("*.json"))
    (tmp_path / "file").write_text("in the way")
    assert str(tmp_path / "file") in call(script.main, *options, "--runs", tmp_path / "file")
