"""Settings of the tests of the data package."""

import pytest

from pp_jax.data import prepare
from small_sets import random_raw, spec_of


@pytest.fixture(autouse=True)
def _no_data_dir_of_the_user(monkeypatch, tmp_path):
    """No test may touch the user's own data directory."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))


@pytest.fixture
def fresh(tmp_path):
    """A prepared set that a test may damage: its arrays, data directory and version directory."""
    raw = random_raw()
    return raw, tmp_path, prepare(spec_of(raw), data_dir=tmp_path)
