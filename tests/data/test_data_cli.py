"""`python -m pp_jax.data`: one line of error, no traceback; help at once."""

import subprocess
import sys
import time

import numpy as np
import pytest

from pp_jax.data.__main__ import main


@pytest.fixture
def letters(tmp_path):
    """An .npz that notmnist is prepared from, and a data directory."""
    rng = np.random.default_rng(0)
    path = tmp_path / "letters.npz"
    images = rng.integers(0, 256, (30, 28, 28), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(30) % 10, class_names=np.array(list("ABCDEFGHIJ")))
    return path, tmp_path / "data"


def test_prepare_list_and_info(letters, capsys):
    path, root = letters
    assert main(["prepare", "notmnist", "--from", str(path), "--data-dir", str(root)]) == 0
    said = capsys.readouterr().out
    assert "30 train" in said
    assert str(path) in said
    assert str(root / "notmnist") in said
    assert main(["list", "--data-dir", str(root)]) == 0
    assert "1.0.0" in capsys.readouterr().out
    assert main(["info", "notmnist", "--data-dir", str(root)]) == 0
    said = capsys.readouterr().out
    assert "10 classes: A, B, C" in said
    assert "as they were written" in said


def test_info_finds_damage(letters, capsys):
    path, root = letters
    main(["prepare", "notmnist", "--from", str(path), "--data-dir", str(root)])
    (root / "notmnist" / "1.0.0" / "decoded" / "train_labels.npy").write_bytes(b"")
    assert main(["info", "notmnist", "--data-dir", str(root)]) == 1
    assert "train_labels.npy has 0 bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "mnits"], "did you mean 'mnist'"),
        (["prepare", "notmnist"], "--from PATH"),
        (["prepare", "mnist", "kmnist", "--from", "somewhere"], "files of one set"),
        (["info", "mnist"], "prepare mnist"),
    ],
)
def test_an_error_is_one_line(arguments, message, capsys):
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1


def test_help_is_there_at_once():
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pp_jax.data", "--help"], capture_output=True, text=True, check=True)
    assert "prepare" in done.stdout
    assert time.monotonic() - before < 3
