"""Folders: hidden files and those of tools are no part of a set, links are followed, and what is left out is told."""

import os

import pytest

from pp_jax.data.files import hidden, merge, open_files
from pp_jax.data.types import DatasetCorrupt


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


TOOLS = [
    ".git/x.png",
    ".DS_Store",
    "a/.ipynb_checkpoints/1-checkpoint.png",
    "a/._1.png",
    "__MACOSX/a/._1.png",
    "a/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
    "#recycle/1.png",
    "$RECYCLE.BIN/1.png",
    "lost+found/1.png",
    "System Volume Information/1.png",
    "a/Thumbs.db",
    "a/desktop.ini",
]


@pytest.mark.parametrize("name", TOOLS)
def test_hidden_files_and_those_of_tools_are_left_out_and_told(tmp_path, name):
    write(tmp_path, "a/1.png", name)
    for files in (open_files(tmp_path), merge("set", {"a/1.png": b"", name: b""})):
        assert files.names == ("a/1.png",)
        assert files.left_out == (f"1 hidden file or folder ({hidden(name)})",)


def test_names_that_only_resemble_those_of_tools_are_kept():
    names = {"git/1.png": b"", "a_.b/x..png": b"", "recycle/1.png": b"", "lost/1.png": b""}
    assert merge("set", names).left_out == ()


def test_the_folders_above_the_source_may_be_hidden(tmp_path):
    write(tmp_path, ".cache/set/a/1.png")
    assert open_files(tmp_path / ".cache" / "set").names == ("a/1.png",)


def test_links_to_files_and_folders_are_followed_and_loops_are_not(tmp_path):
    write(tmp_path, "set/a/1.png", "elsewhere/2.png", "elsewhere/deep/3.png")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "a" / "4.png").symlink_to("1.png")
    (tmp_path / "set" / "a" / "up").symlink_to("..")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "set" / "pipe")
    files = open_files(tmp_path / "set")
    assert files.names == ("a/1.png", "a/4.png", "b/2.png", "b/deep/3.png")
    assert files.left_out == ("4 links or special files that lead to no file (a/up, b/back, gone.png, …)",)
    assert files.read("b/deep/3.png") == b"elsewhere/deep/3.png"


def test_folders_without_files_are_listed(tmp_path):
    write(tmp_path, "a/b/1.png")
    (tmp_path / "c" / "d").mkdir(parents=True)
    assert open_files(tmp_path).folders == ("c", "c/d")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    write(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(DatasetCorrupt, match="Permission denied"):
            open_files(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o700)


def test_a_file_that_went_away_is_named(tmp_path):
    write(tmp_path, "a/1.png")
    files = open_files(tmp_path)
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(DatasetCorrupt, match=r"a/1\.png is truncated or damaged"):
        files.read("a/1.png")


def test_names_are_printed_on_one_line_whatever_they_are(tmp_path):
    (tmp_path / "a").mkdir()
    with open(os.fsencode(tmp_path) + b"/a/caf\xe9\n.png", "wb"):
        pass
    files = open_files(tmp_path)
    assert files.where(files.names[0]) == f"{tmp_path}/a/caf\\udce9\\x0a.png"
    assert files.read(files.names[0]) == b""


def test_of_several_files_the_same_content_counts_as_one():
    assert merge("raw", {"x": b"same", "y/x": b"same"}).find("x") == "x"
    with pytest.raises(DatasetCorrupt, match=r"several files that end with x: x, y/x"):
        merge("raw", {"x": b"same", "y/x": b"other"}).find("x")
