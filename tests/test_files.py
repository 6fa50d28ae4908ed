"""Paths as users mean them: `~`, blanks, letters beyond ASCII."""

import pwd

import pytest

from generated_cells import CELLS, cell, write_all
from pp_jax import _files, data, plots, records, report
from pp_jax.data.spec import Spec
from pp_jax.data.types import Raw
from pp_jax.results.records import exporting
from scripts import stripes


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a blank and an umlaut, and another current folder that must stay empty."""
    home = tmp_path / "Frau Müller"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield home
    assert not list((tmp_path / "here").iterdir())


def test_the_home_folder_is_written_out(home):
    assert _files.expanded("~") == home
    assert _files.expanded("~/a b/ö") == home / "a b" / "ö"
    assert str(_files.expanded("a/~")) == "a/~"


def test_a_home_folder_that_is_not_known_is_an_error(monkeypatch):
    def missing(who):
        raise KeyError(who)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", missing)
    for path in ("~/runs", "~nobody-of-this-name/runs"):
        with pytest.raises(ValueError, match=f"path is '{path}', and its home folder is not known here: .* set HOME"):
            _files.expanded(path)


def test_records_figures_and_tables_go_home(home):
    records.check_writable("~/runs ä")
    numbers = cell(*CELLS[1])
    written = records.write("~/runs ä", **numbers)
    assert written.parent == home / "runs ä"
    assert records.load(f"~/runs ä/{written.name}") == records.find("~/runs ä", numbers["config"])
    assert records.load_all("~/runs ä")[0].path == written
    with records.claim("~/runs ä", {"seed": 0}) as mine:
        assert mine
    assert records.once("~/runs ä", numbers["config"], lambda: pytest.fail("computed")).path == written
    (home / "runs ä" / "0123456789abcdef.partial").mkdir()
    records.discard("~/runs ä/0123456789abcdef.partial")
    assert not list(home.glob("*/*.partial"))
    found = write_all(home / "cells", cells=CELLS[:3])
    assert report.write("~/ö/report.html", found, title="ö").is_file()
    assert exporting.export("~/ö/t.csv", found).is_file()
    assert plots.save(plots.tradeoff(found), "~/ö/t.png").is_file()
    assert {path.name for path in (home / "ö").iterdir()} == {"report.html", "t.csv", "t.png"}


def test_data_go_home_and_come_from_there(home):
    raw = Raw({"train": stripes(40, 0), "test": stripes(8, 1)}, ("top", "right", "bottom", "left"))
    spec = Spec("stripes", "1.0.0", (None, None, 1), "For tests.", read=lambda files: raw)
    (home / "ü").mkdir()
    assert data.prepare(spec, source="~/ü", data_dir="~/données") == home / "données" / "stripes" / "1.0.0"
    assert len(data.load("stripes", "train", data_dir="~/données").images) == 40
