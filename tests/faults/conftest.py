"""The data of all fault tests, and what the scripts come to when nothing happens to them."""

import pytest

from lives import SWEEP, TRAINING, swept, trained
from scripts import prepare_stripes, script


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    """What all processes share: the data, and what XLA has compiled, so that a restart is quick."""
    compiled = tmp_path_factory.mktemp("compiled")
    quick = {"JAX_COMPILATION_CACHE_DIR": str(compiled), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {"data_dir": prepare_stripes(tmp_path_factory.mktemp("data")), "environment": quick}


@pytest.fixture(scope="module")
def whole_training(common, tmp_path_factory):
    """What a training comes to that nothing happens to."""
    runs = tmp_path_factory.mktemp("training")
    status, text = script("train_victim.py", "--runs", runs, *TRAINING, **common)
    assert status == 0, text
    return trained(runs)


@pytest.fixture(scope="module")
def whole_sweep(common, tmp_path_factory):
    """The folder of an evaluation that nothing happens to, and what it comes to."""
    runs = tmp_path_factory.mktemp("sweep")
    status, text = script("worst_case.py", "--runs", runs, *SWEEP, **common)
    assert status == 0, text
    return runs, swept(runs)
