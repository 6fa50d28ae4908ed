"""`python -m pp_jax.data`: one line of error, no traceback; help at once."""

import subprocess
import sys
import time

import numpy as np
import pytest

from encoded import picture, tarred, zipped
from pp_jax.data import load
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


def test_the_last_line_and_info_say_what_was_left_out_and_why(tmp_path, capsys):
    parts = {
        f"{split}/{letter}/{i}.png": picture() for split in ("Training", "Testing") for letter in "AB" for i in range(6)
    }
    parts |= {"Training/A/x.png": b"", "Testing/.ipynb_checkpoints/1.png": picture(), "Training/C/1.png": picture()}
    (tmp_path / "letters.zip").write_bytes(zipped(parts))
    source, root = str(tmp_path / "letters.zip"), str(tmp_path / "data")
    assert main(["prepare", "imagenet_sample", "--size", "64", "--from", source, "--data-dir", root]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        f"prepared imagenet_sample: 12 test images of 2 classes, 13 train images of 3 classes, from {source} in {root}/"
        "imagenet_sample/1.0.0; 1 class without test images (C); left out: 1 hidden file or folder "
        "(Testing/.ipynb_checkpoints), 1 file that is no whole image (Training/A/x.png)"
    )
    assert main(["info", "imagenet_sample", "--data-dir", root]) == 0
    said = capsys.readouterr().out
    assert "left out: 1 hidden file or folder (Testing/.ipynb_checkpoints), 1 file that is no whole image" in said


def test_class_names_of_one_line_each_are_stored(tmp_path):
    """TFDS keeps a name a line, strips it, and passes over an empty one, which would shift the labels behind it."""
    parts = dict.fromkeys((" /1.png", "a\nb/2.png", "c /3.png", "d/4.png"), picture())
    (tmp_path / "odd.tar").write_bytes(tarred(parts))
    source, root = str(tmp_path / "odd.tar"), tmp_path / "data"
    assert main(["prepare", "imagenet_sample", "--size", "64", "--from", source, "--data-dir", str(root)]) == 0
    dataset = load("imagenet_sample", data_dir=root)
    assert dataset.class_names == ("0", "a b", "c", "d")
    assert sorted(dataset.labels.tolist()) == [0, 1, 2, 3]


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
