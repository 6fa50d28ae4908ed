"""The table of ownership on small real files, and what it refuses before anything is trained."""

import dataclasses

import pytest

from experiments import ownership
from scripts import SMALL_VICTIM, small

VICTIM = dataclasses.replace(SMALL_VICTIM, train_size=200)


def _config(data_dir, tmp_path, **changes):
    """Seconds of it."""
    made = small(
        ownership.Config, data_dir, tmp_path, independent_size=100, triggers=10, samples=10, others=99, **changes
    )
    return dataclasses.replace(made, victim=VICTIM)


@pytest.mark.slow
def test_every_kind_of_mark_gets_its_rows(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(ownership, "FATES", (ownership.FATES[0], ownership.FATES[-1]))
    monkeypatch.setattr(ownership, "SOURCE", 1)
    monkeypatch.setattr(ownership, "TARGET", 3)
    monkeypatch.setattr("experiments.ownership_worlds.TARGET", 3)
    config = _config(data_dir, tmp_path, marks=("DAWN, 2 %", "Honeytrace", "EWE", "dataset inference"))
    carried, accused, costs = ownership.run(config)
    assert {row[0] for row in carried.rows} == {row[0] for row in costs.rows} == set(config.marks)
    assert len(carried.rows) == 2 * (2 + 2 + 1 + 2)
    assert [row[1] for row in accused.rows] == [t for mark in config.marks for t in ownership.TESTS[mark]]
    for row in carried.rows:
        assert 0 <= float(row[5]) <= 1
    assert ownership.run(config)[0].rows == carried.rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"marks": ("DAWN",)}, "marks has 'DAWN': must be of DAWN, 0.5 %; DAWN, 2 %"),
        ({"independents": 2}, "independents is 2: must be at least 3"),
        ({"independent_size": 250}, "victim.train_size is 200: must leave 250 of 400 images"),
    ],
)
def test_what_cannot_be_run_is_refused_first(data_dir, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        ownership.run(dataclasses.replace(_config(data_dir, tmp_path), **changes))


def test_each_mark_goes_through_each_fate_once():
    for mark in ownership.MARKS:
        names = [fate.name for fate in ownership.fates_of(mark)]
        assert len(names) == len(set(names))
    assert all(fate.then != "KeyedSwap" for fate in ownership.fates_of("KeyedSwap"))
