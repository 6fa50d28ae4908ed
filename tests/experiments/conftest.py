"""Stripes that every script runs on, and a way to call a script's `main` as a command line does."""

import sys

import pytest

from scripts import SMALL, THEFT

TINY = (*SMALL, "--victim.model", "mlp", *THEFT, "--attack.model", "mlp")


@pytest.fixture(scope="session")
def session_runs(tmp_path_factory):
    """A folder of results that all tests share: the victim is trained once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def command(data_dir, session_runs, monkeypatch, capsys):
    """Calls a script with the small victim and attack; what it printed."""

    def call(script, *options):
        monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, (*TINY, *options))])
        monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
        if "--runs" not in options:
            sys.argv += ["--runs", str(session_runs)]
        script.main()
        return capsys.readouterr().out

    return call
