"""docs/your_own.md as it stands: its file imported from elsewhere, raced from Python and from the command line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pp_jax.evaluation import named

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "your_own.md").read_text("utf-8")


def block(mark):
    """The code block behind a mark."""
    return re.search(rf"<!-- {mark} -->\n```python\n(.*?)```", TEXT, re.S)[1]


@pytest.fixture
def folder(tmp_path):
    """A folder outside the project with the file in it."""
    (tmp_path / "mine.py").write_text(block("file: mine.py"), "utf-8")
    (tmp_path / "race.py").write_text(block("run: race.py"), "utf-8")
    return tmp_path


def test_one_file_of_at_most_forty_lines():
    assert len(block("file: mine.py").strip().splitlines()) <= 40


def test_the_race_in_python_runs_as_it_stands(folder):
    done = subprocess.run(
        [sys.executable, "race.py"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert rows[0].startswith("no defense")
    assert "MAD, ε = 0.5" in rows[1]
    assert "flatten, weight = 0.9" in rows[2]
    assert len(list((folder / "runs" / "evaluation").glob("*.json"))) == 8


def test_an_api_that_fails_once_is_paid_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block("run: paid.py"), "paid.py", "exec"), {"__name__": "paid"})
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("60 answered, 90 spent: ConnectionError: 429 too many requests (60 of 100 queries were")
    assert last == "100 answered by 5 calls"


def test_a_file_is_named_on_the_command_line(folder):
    entry = named.defense(f"{folder}/mine.py:Flatten(weight=0.9)")
    assert entry.text() == "flatten, weight = 0.9"
    assert named.attacker(f"{folder}/mine.py:UNFLATTEN").name == "unflatten"


def test_an_edited_class_is_another_defense(folder, tmp_path):
    before = named.defense(f"{folder}/mine.py:Flatten(weight=0.9)").identity()
    edited = tmp_path / "edited.py"
    edited.write_text((folder / "mine.py").read_text("utf-8").replace("/ probs.shape[-1]", "/ len(probs)"), "utf-8")
    assert before["content"] != named.defense(f"{edited}:Flatten(weight=0.9)").identity()["content"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MADE", "did you mean MAD"),
        ("nowhere.py:Mine", "nowhere.py is no file"),
        ("MAD(epsilon=)", r"must be Name, Name\(parameter=value"),
        ("{folder}/broken.py:Mine", "does not import: NameError"),
        ("{folder}/mine.py:Flaten", "did you mean Flatten"),
    ],
)
def test_what_cannot_be_named_is_one_line(folder, text, message):
    (folder / "broken.py").write_text("undefined_name\n")
    with pytest.raises(ValueError, match=message) as caught:
        named.defense(text.format(folder=folder))
    assert "\n" not in str(caught.value)
