"""Several processes on one folder, killed processes, full disks and bad clocks: nothing lost, nothing twice."""

import random
import time

import pytest

from pp_jax import records
from processes import finish, python

# Every worker goes through the same cells in the same order, so that they meet as often as can be.
SWEEP = """
def compute(seed):
    time.sleep(0.005)
    log = os.open(os.path.join(FOLDER, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{seed} {os.getpid()}\\n".encode())
    os.close(log)
    write(seed, x=seed**2)

cells = list(range(int(sys.argv[2])))
print("ready", flush=True)
sys.stdin.readline()
while cells:
    cells = [seed for seed in cells if records.once(FOLDER, {"seed": seed}, lambda: compute(seed)) is None]
"""


def results(folder):
    return {record.config["seed"]: record.result["x"] for record in records.load_all(folder)}


def start(workers, *, cells, folder):
    started = [python(SWEEP, folder, cells) for _ in range(workers)]
    for worker in started:
        assert worker.stdout.readline() == "ready\n"
    for worker in started:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return started


def test_four_workers_on_one_folder_compute_each_of_forty_cells_once(tmp_path):
    finish(*start(4, cells=40, folder=tmp_path))
    log = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(int(seed) for seed, _ in log) == list(range(40))
    assert len({worker for _, worker in log}) > 1
    assert results(tmp_path) == {seed: seed**2 for seed in range(40)}


def kill_often(folder, *, times, cells):
    """Kill sweeps at random moments, then let one finish; how many kills met a process that was not done."""
    rng = random.Random(0)
    early = 0
    for _ in range(times):
        workers = start(2, cells=cells, folder=folder)
        time.sleep(rng.uniform(0, 0.08))
        for worker in workers:
            early += worker.poll() is None
            worker.kill()
        for worker in workers:
            worker.communicate(timeout=60)
    finish(*start(1, cells=cells, folder=folder))
    return early


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_with_every_cell(tmp_path):
    assert kill_often(tmp_path, times=5, cells=60) > 0
    assert results(tmp_path) == {seed: seed**2 for seed in range(60)}


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_forty_random_moments_ends_with_every_cell_and_repeats_none_that_was_done(tmp_path):
    assert kill_often(tmp_path, times=20, cells=600) == 40
    assert results(tmp_path) == {seed: seed**2 for seed in range(600)}
    logged = [int(line.split()[0]) for line in (tmp_path / "log").read_text().splitlines()]
    # A kill costs at most the one cell that its process was computing.
    assert len(logged) <= 600 + 40
    assert set(logged) == set(range(600))


OVERWRITE = """
for turn in range(60):
    write(0, x=[int(sys.argv[2])] * 5000)
"""


def test_two_processes_that_write_one_record_leave_it_whole_at_every_moment(tmp_path):
    path = records.write(tmp_path, kind="k", config={"seed": 0}, result={"x": [0] * 5000}, timings={})
    writers = [python(OVERWRITE, tmp_path, number) for number in (1, 2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        x = records.load(path).result["x"]
        assert len(x) == 5000
        assert len(set(x)) == 1
        seen.add(x[0])
    finish(*writers)
    assert seen & {1, 2}
    assert list(tmp_path.iterdir()) == [path]


# Two workers share the folder, so that they also overwrite each other's cells.
ENDLESS = """
for turn in range(10**9):
    write(turn % 5, x="y" * 300_000)
    if turn == 0:
        print("ready", flush=True)
"""


def test_kill_in_the_middle_of_writes_leaves_nothing_or_whole_records(tmp_path):
    workers = [python(ENDLESS, tmp_path) for _ in range(2)]
    try:
        for worker, delay in zip(workers, (0.21, 0.34), strict=True):
            assert worker.stdout.readline() == "ready\n"
            time.sleep(delay)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate(timeout=60)
    whole = records.load_all(tmp_path)
    assert 0 < len(whole) <= 5
    assert all(len(record.result["x"]) == 300_000 for record in whole)


# The kernel itself cuts the write short at the limit, as a full disk does.
FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for ask in (
    lambda: records.once(FOLDER, {"seed": 1}, lambda: write(1, x="y" * 10_000)),
    lambda: write(0, x="y" * 10_000),
    lambda: records.check_writable(FOLDER),
):
    try:
        ask()
    except OSError as error:
        print(error)
"""


def test_a_full_disk_leaves_the_old_record_a_free_claim_and_one_clear_error(tmp_path):
    path = records.write(tmp_path, kind="k", config={"seed": 0}, result={"x": 1}, timings={})
    before = path.read_bytes()
    (lines,) = finish(python(FULL, tmp_path))
    assert len(lines) == 3
    assert all(f"cannot write {tmp_path}" in line and "room for the whole file" in line for line in lines)
    assert [file for file in tmp_path.iterdir() if file.name != ".claims"] == [path]
    assert path.read_bytes() == before
    with records.claim(tmp_path, {"seed": 1}) as mine:
        assert mine


# Every look at any clock is an hour before the last one.
BACKWARDS = """
import datetime, itertools
from pp_jax import records
ticks = map(float, itertools.count(2_000_000_000, -3600))
time.time = time.monotonic = time.perf_counter = lambda: next(ticks)

class Backwards(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(next(ticks), tz)

provenance.datetime = Backwards
for seed in range(5):
    record = records.once(FOLDER, {"seed": seed}, lambda: write(seed, x=seed), wait=seed % 2 == 1)
    print(record.environment["time"])
write(0, x="newer")
print(records.find(FOLDER, {"seed": 0}).environment["time"])
"""


def test_a_clock_that_runs_backwards_changes_nothing_but_the_times(tmp_path):
    (times,) = finish(python(BACKWARDS, tmp_path))
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 6
    assert results(tmp_path) == {0: "newer", 1: 1, 2: 2, 3: 3, 4: 4}
