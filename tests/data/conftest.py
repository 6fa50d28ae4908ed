"""Settings of the tests of the data package."""

import pytest


@pytest.fixture(autouse=True)
def _no_data_dir_of_the_user(monkeypatch, tmp_path):
    """No test may touch the user's own data directory."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
