"""Victims by options: what names them, what contradicts itself, and weights from a file."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import victims
from experiments.common import AttackOptions, Options
from experiments.victims import VictimOptions
from pp_jax import checkpoints
from scripts import SMALL_VICTIM
from torch_files import SAVED


def test_options_that_are_not_used_do_not_name_a_victim():
    plain = VictimOptions().settings()
    assert plain == {
        "dataset": "mnist", "model": "lenet", "epochs": 4, "batch_size": 64, "learning_rate": 0.1, "momentum": 0.5,
        "decay_every": 3, "seed": 0,
    }  # fmt: skip
    exposed = VictimOptions(outliers="omniglot_28").settings()
    assert exposed == {**plain, "outliers": "omniglot_28", "outlier_weight": 0.5}


@pytest.mark.parametrize("other", [{"noise_multiplier": 1.0}, {"weights": "victim.safetensors"}])
def test_an_exposed_victim_is_trained_and_not_privately(other):
    with pytest.raises(ValueError, match="must not be given where outliers are"):
        VictimOptions(outliers="omniglot_28", **other).recipe()


def test_outliers_are_not_what_the_victim_is_trained_on():
    with pytest.raises(ValueError, match="outliers is mnist: must not be what the victim is trained on"):
        VictimOptions(outliers="mnist").recipe()


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """A small victim and the folder that it is kept in."""
    runs = tmp_path_factory.mktemp("runs")
    return victims.victim(SMALL_VICTIM, runs, data_dir), runs


def test_weights_may_come_from_a_file(trained, data_dir, tmp_path):
    same = checkpoints.save(tmp_path / "same.safetensors", trained[0].params, metadata={"mean": [0.0], "std": [1.0]})
    given = dataclasses.replace(SMALL_VICTIM, weights=same)
    assert victims.victim(given, tmp_path, data_dir).network == trained[0].network
    assert victims.accuracy(given, tmp_path) == victims.accuracy(SMALL_VICTIM, trained[1])


def test_weights_from_a_file_keep_their_normalisation(trained, data_dir, tmp_path):
    # With x / 0.5 − 1 in place of x, the first layer of the same function is halved and its bias corrected.
    params = jax.tree.map(np.asarray, trained[0].params)
    first = params["params"][next(iter(params["params"]))]
    first["bias"] = first["bias"] + 0.5 * first["kernel"].sum(0)
    first["kernel"] = 0.5 * first["kernel"]
    file = checkpoints.save(tmp_path / "own.safetensors", params, metadata={"mean": [0.5], "std": [0.5]})
    given = dataclasses.replace(SMALL_VICTIM, weights=file)
    found = victims.victim(given, tmp_path, data_dir)
    assert (found.network.mean, found.network.std) == ((0.5,), (0.5,))
    assert victims.accuracy(given, tmp_path) == victims.accuracy(SMALL_VICTIM, trained[1])
    assert victims.untrained(given, data_dir).network == found.network
    options = Options(given, AttackOptions("stripes", model="mlp", start=str(file)), runs=tmp_path, data_dir=data_dir)
    assert options.network() == found.network
    same = jax.tree.map(np.array_equal, options.start(), params)
    assert jax.tree.all(same)


def test_weights_of_another_network_to_start_from_are_refused(data_dir, tmp_path):
    file = checkpoints.save(tmp_path / "other.safetensors", {"params": {"x": np.ones(3, np.float32)}}, metadata={})
    options = Options(SMALL_VICTIM, AttackOptions("stripes", model="mlp", start=str(file)), data_dir=data_dir)
    with pytest.raises(ValueError, match=r"start is .*: must hold the layers of mlp \(--attack\.model\)"):
        options.start()


@pytest.mark.parametrize("name", SAVED)
def test_weights_of_pytorch_are_to_be_imported_first(name, data_dir, tmp_path):
    given = dataclasses.replace(SMALL_VICTIM, weights=SAVED[name])
    options = Options(SMALL_VICTIM, AttackOptions("stripes", model="mlp", start=str(SAVED[name])), data_dir=data_dir)
    asks = (
        lambda: victims.victim(given, tmp_path, data_dir),
        lambda: victims.untrained(given, data_dir),
        options.network,
        options.start,
    )
    for ask in asks:
        with pytest.raises(ValueError, match=r"imported first: python -m pp_jax\.models import-torch"):
            ask()


def test_a_folder_of_weights_and_an_absent_file_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="a folder: must be a file that `python -m pp_jax"):
        VictimOptions(weights=tmp_path).settings()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"weights is ~/w: there is no such file"):
        VictimOptions(weights=Path("~/w")).settings()
    (tmp_path / "w").write_bytes(b"x")
    assert "weights_sha256" in VictimOptions(weights=Path("~/w")).settings()
