"""`kill -9` at 20 random moments of a sweep: the same records and the same table, bit for bit."""

import pytest

from lives import KILLS, SWEEP, claimed, survive, swept


@pytest.mark.slow
def test_a_sweep_killed_20_times_ends_with_the_same_records_and_table(common, whole_sweep, tmp_path):
    runs, seen = survive("tradeoff.py", SWEEP, tmp_path, common, sign=claimed, longest=0.6, seed=1)
    assert all(swept(folder) == whole_sweep[1] for folder in runs)
    begun = [len([lock for lock in locks if lock.parts[-3] == "tradeoff"]) for locks in seen]
    print(f"{len(seen)} kills in {len(runs)} sweeps, after cells begun {begun}")
    assert len(seen) >= KILLS
    assert sum(map(bool, begun)) >= KILLS // 2  # The others fell into the training of the victim.
