"""Commands in the environments that users have: few letters, no home, a reader that goes, a closed or full output."""

import os
import subprocess
import sys

import pytest

from commands import environment, run
from generated_cells import CELLS, write_all
from pp_jax._command import command, sentence
from scripts import prepare_stripes

ASCII = {"PYTHONIOENCODING": "ascii"}
POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None}
CHATTY = """
from pp_jax._command import command
@command()
def main():
    for number in range(100_000):
        print("line", number)
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data and records in folders whose names have a blank and a letter that ASCII lacks."""
    folder = tmp_path_factory.mktemp("häus und höf")
    write_all(folder / "cells", cells=CELLS[:5])
    prepare_stripes(folder / "data")
    return folder


def test_letters_that_an_encoding_lacks_are_spelled():
    with command():
        pass
    assert (
        "ε = 0.5 – 2 × ½, σ² ≤ é …".encode("ascii", "pp_jax.spelled")
        == rb"epsilon = 0.5 - 2 x \xbd, sigma2 <= \xe9 ..."
    )
    assert "é ε".encode("latin-1", "pp_jax.spelled") == b"\xe9 epsilon"
    assert "a\udcff".encode("utf-8", "pp_jax.spelled") == rb"a\xff"


def test_an_error_is_one_line_without_a_number():
    assert sentence(OSError(2, "No such file or directory", "x")) == "No such file or directory: 'x'"
    assert sentence(ValueError("one\ntwo")) == "one two"


def test_help_tables_and_errors_print_on_an_output_of_few_letters(folder, tmp_path):
    statuses, out, err = run(
        ("pp_jax.data.__main__", "prepare", "--help"),
        ("pp_jax.results.__main__", "list", folder / "cells"),
        ("pp_jax.results.__main__", "list", folder / "nö"),
        **ASCII,
    )
    assert statuses == [0, 0, 1]
    assert out.isascii()
    assert "SIZE x" in out
    assert "fidelity" in out
    assert err.startswith("error: there is no folder ")
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [ASCII, POSIX], ids=["ascii", "posix"])
def test_commands_print_on_an_output_of_few_letters(folder, tmp_path, terminal):
    statuses, out, err = run(
        ("pp_jax.data.__main__", "list", "--data-dir", folder / "data"),
        ("pp_jax.data.__main__", "info", "stripes", "--data-dir", folder / "data"),
        ("pp_jax.data.__main__", "prepare", "--help"),
        ("pp_jax.data.__main__", "prepare", "notmnist", "--from", folder / "nö", "--data-dir", tmp_path),
        ("pp_jax.results.__main__", "list", folder / "cells"),
        ("pp_jax.results.__main__", "export", folder / "cells", "--out", tmp_path / "ä.csv"),
        ("experiments.plot", "--runs", folder / "cells", "--out", tmp_path / "ö"),
        ("experiments.worst_case", "--help"),
        **terminal,
    )
    assert statuses == [0, 0, 0, 1, 0, 0, 0, 0]
    assert out.isascii()
    assert "crop and resample an image folder's images to SIZE x" in " ".join(out.split())
    assert "epsilon = 0.5" in out
    assert "all 9 files are as they were written" in out
    assert err.startswith("error: there is no file or folder ")
    assert err.count("\n") == 1
    names = {os.fsdecode(os.fsencode(path.relative_to(tmp_path))) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"ä.csv", "ö/tradeoff.png", "ö/report.html", "ö/tradeoff.md"}


@pytest.mark.slow
def test_commands_need_no_home_no_terminal_and_no_backend_of_the_users(folder, tmp_path):
    """As in a container whose user has no name, or started from a notebook of another environment."""
    statuses, out, err = run(
        ("pp_jax.data.__main__", "list"),
        ("pp_jax.data.__main__", "list", "--data-dir", folder / "data"),
        ("pp_jax.data.__main__", "list", "--data-dir", "~/data"),
        ("pp_jax.results.__main__", "list", folder / "cells"),
        ("experiments.plot", "--runs", folder / "cells", "--out", tmp_path),
        start="import pwd; pwd.getpwuid = {}.__getitem__\n",
        HOME=None,
        TFDS_DATA_DIR=None,
        TERM="dumb",
        NO_COLOR="1",
        COLUMNS="20",
        LC_ALL="de_DE.UTF-8",
        MPLBACKEND="module://matplotlib_inline.backend_inline",
        MPLCONFIGDIR=tmp_path / "matplotlib",
    )
    assert statuses == [1, 0, 1, 0, 0]
    assert "\x1b" not in out
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: path is '~/tensorflow_datasets', and its home folder is not known here")
    assert lines[1].startswith("error: path is '~/data'")
    assert (tmp_path / "tradeoff.png").read_bytes().startswith(b"\x89PNG")


def test_a_current_folder_that_is_read_only_is_needed_for_nothing_but_its_own_outputs(folder, tmp_path):
    cells = folder / "cells"
    statuses, out, err = run(
        ("pp_jax.results.__main__", "list", cells),
        ("pp_jax.results.__main__", "export", cells, "--out", "t.csv"),
        ("pp_jax.results.__main__", "export", cells, "--out", tmp_path / "t.csv"),
        cwd="/proc",  # nobody writes there, not even root
    )
    assert statuses == [0, 1, 0]
    assert "tradeoff (5)" in out
    assert err.startswith("error: cannot write t.csv (")
    assert err.count("\n") == 1


def child(script, **options):
    """Start a process that runs a script."""
    return subprocess.Popen(
        [sys.executable, "-c", script], env=environment(), stderr=subprocess.PIPE, text=True, **options
    )


def test_a_reader_that_has_read_enough_ends_a_command_in_silence():
    with child(CHATTY, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_a_full_output_is_one_line():
    with open("/dev/full", "w") as full, child(CHATTY.replace("100_000", "10"), stdout=full) as process:
        said = process.stderr.read()
    assert process.returncode == 1
    assert said == f"error: cannot write to the standard output ({os.strerror(28)})\n"


def test_no_file_takes_the_number_of_a_closed_output(tmp_path):
    script = """
from pp_jax._command import command
import os, sys
@command()
def main():
    print("printed")
    with open(sys.argv[1], "w") as file:
        assert file.fileno() > 2
        os.write(1, b"from C")
main()
"""
    shell = 'exec "$0" "$@" <&- >&- 2>&-'
    arguments = ["sh", "-c", shell, sys.executable, "-c", script, str(tmp_path / "file")]
    assert subprocess.run(arguments, env=environment(), timeout=60, check=False).returncode == 0
    assert (tmp_path / "file").read_text() == ""
