"""A theft that is stopped in the middle of its training goes on there."""

import pytest

import smallworld as small
from pp_jax import defenses, records
from pp_jax.evaluation import Entry, attackers, runs
from pp_jax.training import Recipe


def test_a_stopped_theft_goes_on_after_its_last_kept_epoch(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "KEEP_EVERY_S", 0.0)
    setup = small.setup(recipe=Recipe(4, batch_size=32, learning_rate=0.05))
    run = runs.Run(Entry(defenses.Rounding, decimals=1), attackers.PLAIN, 0)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    runs.compute(setup, run, whole)

    def stop(share):
        if share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.compute(setup, run, stopped, stop)
    assert list(stopped.glob("*.partial"))
    shares = []
    runs.compute(setup, run, stopped, shares.append)
    assert [share for share in shares if share > 0.1] == [pytest.approx(1.0)]  # three of four epochs were there
    one, other = (records.find(folder, run.config(setup)) for folder in (whole, stopped))
    assert one.result == other.result
    assert not list(stopped.glob("*.partial"))
