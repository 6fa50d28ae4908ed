"""The main job on small real files: one command, and one line for whatever is wrong before a victim is trained."""

import sys

import pytest

from experiments import victims, worst_case

SMALL = [
    "--victim.dataset",
    "stripes",
    "--victim.model",
    "mlp",
    "--victim.epochs",
    "2",
    "--victim.batch-size",
    "32",
    "--attack.pool",
    "stripes",
    "--attack.model",
    "mlp",
    "--attack.budget",
    "160",
    "--attack.epochs",
    "1",
]


def run(monkeypatch, data_dir, runs, *options):
    """The script with options, as a user types them."""
    arguments = ["worst_case", *SMALL, "--data-dir", str(data_dir), "--runs", str(runs), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    worst_case.main()


def test_one_command_shows_the_worst_case_of_every_defense(monkeypatch, data_dir, tmp_path, capsys):
    run(monkeypatch, data_dir, tmp_path, "--defense", "none", "MAD", "Top1", "--attackers", "plain", "inversion")
    shown = capsys.readouterr().out
    assert "worst" in shown
    assert "The lowest worst case is that of" in shown
    folder = tmp_path / "worst_case"
    assert {"worst_case.md", "worst_case.png", "report.html"} <= {path.name for path in folder.iterdir()}
    assert len(list(folder.glob("*.json"))) == 4
    text = (folder / "worst_case.md").read_text("utf-8")
    assert "does not apply" in text
    assert "MAD, ε = 0.99" in text


BAD = {
    "unknown defense": (["--defense", "MADD"], "did you mean MAD"),
    "unknown parameter": (["--defense", "MAD(epsilonn=1)"], "cannot be made"),
    "out of range": (["--defense", "MAD(epsilon=3.0)"], "3"),
    "unknown attacker": (["--attackers", "plian"], "plian"),
    "no such file": (["--defense", "mine.py:Mine"], "mine.py is no file"),
    "budget": (["--attack.budget", "100000"], "budget is 100000"),
    "pool": (["--attack.pool", "stripe"], "stripe"),
    "half of equal": (["--equal", "l1"], "must be given both or neither"),
    "amount": (["--equal", "l1", "--at", "5"], "at is 5"),
    "no seeds": (["--seeds"], "seeds is empty"),
    "outliers": (["--outliers", "stripes"], "outliers is stripes"),
    "no outliers": (["--defense", "EDM"], "outliers is None"),
    "start": (["--attack.start", "nowhere.safetensors"], "nowhere.safetensors"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_before_a_victim_is_trained(options, message, monkeypatch, data_dir, tmp_path):
    monkeypatch.setattr(victims, "_fit", lambda *_: pytest.fail("a victim was trained"))
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, data_dir, tmp_path, *options)
    text = str(stopped.value)
    assert text.startswith("error: ")
    assert message in text
    assert "\n" not in text
    assert not list(tmp_path.rglob("*.json"))


def test_a_folder_that_cannot_be_written_is_one_line(monkeypatch, data_dir, tmp_path):
    (tmp_path / "worst_case").write_text("a file in the way")
    monkeypatch.setattr(victims, "_fit", lambda *_: pytest.fail("a victim was trained"))
    with pytest.raises(SystemExit, match="worst_case"):
        run(monkeypatch, data_dir, tmp_path)
