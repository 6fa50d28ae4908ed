"""The trade-off of a small grid: records, figure and report, the worst case beside the plain attacker."""

import json
import sys

import pytest

from experiments import plot, tradeoff
from pp_jax import records

GRID = ("--mad", "1.5", "--mad-argmax", "--reverse-sigmoid", "--random-noise", "--top-k", "3", "--rounding")
OPTIONS = (*GRID, "--no-top-1", "--attackers", "plain", "hard label")


@pytest.mark.slow
def test_tradeoff_writes_records_figure_and_report_resumes_and_is_drawn_again(
    command, session_runs, tmp_path, monkeypatch, capsys
):
    text = command(tradeoff, *OPTIONS)
    folder = session_runs / "tradeoff"
    found = records.load_all(folder, kind="tradeoff")
    pairs = {(record.config["defense"]["name"], record.config["attack"]["name"]): record.result for record in found}
    assert len(found) == len(pairs) == 3 * 2
    assert pairs["no defense", "plain"]["query_l1"]["max"] == 0
    assert (folder / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text("utf-8")
    assert "worst case over attackers" in page
    assert "hief" not in page + text
    assert "tradeoff.png" in text
    stamps = {record.path: record.path.stat().st_mtime_ns for record in found}
    found[0].path.unlink()
    command(tradeoff, *OPTIONS)
    assert [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp] == [found[0].path]
    assert json.loads(found[0].path.read_text())["result"] == found[0].result  # the same numbers

    monkeypatch.setattr(sys, "argv", ["plot", "--runs", str(folder), "--out", str(tmp_path)])
    plot.main()
    assert {path.name for path in tmp_path.iterdir()} == {"tradeoff.png", "report.html", "tradeoff.md"}
    assert (tmp_path / "tradeoff.md").read_bytes() == (folder / "tradeoff.md").read_bytes()


def test_a_folder_without_records_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plot", "--runs", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match=r"error: runs is .*none: must be a folder with trade-off records"):
        plot.main()


def test_records_of_the_old_framework_are_refused_in_one_line(tmp_path, monkeypatch):
    config = {"attack": {"name": "knockoff", "labels": "soft"}, "defense": {"name": "mad"}, "seed": 0}
    records.write(tmp_path, kind="tradeoff", config=config, result={}, timings={})
    monkeypatch.setattr(sys, "argv", ["plot", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: record .* was written by an older version"):
        plot.main()
