"""A theft that is stopped in the middle of its training goes on there."""

import pytest

from pp_jax import records
from scripts import prepare_stripes


@pytest.mark.slow
def test_a_stopped_theft_goes_on_after_its_last_kept_epoch(scripts, monkeypatch, tmp_path):
    steal, theft = scripts("steal"), scripts("thieves.theft")
    monkeypatch.setattr(theft, "KEEP_EVERY_S", 0.0)
    victim = steal.Victim("stripes", "mlp", epochs=2)
    attack = steal.Attack(pool="stripes", budget=128, epochs=4, model="mlp")
    data_dir = prepare_stripes(tmp_path / "data")
    cells = [steal.Config(victim, attack, runs=tmp_path / name, data_dir=data_dir) for name in ("whole", "stopped")]
    steal.compute(cells[0], folder="cells")

    def until(share):
        def stop(done):
            if done > share:
                raise KeyboardInterrupt

        return stop

    with pytest.raises(KeyboardInterrupt):
        steal.compute(cells[1], folder="cells", progress=until(0.7))
    shares = []
    steal.compute(cells[1], folder="cells", progress=shares.append)
    assert [share for share in shares if share > 0.1] == [pytest.approx(1.0)]  # three of four epochs were there
    whole, stopped = (records.find(cell.runs / "cells", cell.settings()) for cell in cells)
    assert whole.result == stopped.result
    assert not list((tmp_path / "stopped").glob("**/*.partial"))
