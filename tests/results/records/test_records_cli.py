"""`python -m pp_jax.results`: what differs at a glance, one record in full, one line of error."""

import subprocess
import sys

import pytest

from generated_cells import write_all
from pp_jax import records
from pp_jax.results.__main__ import main


@pytest.fixture
def folder(tmp_path):
    """A sweep over two seeds, and a record of another kind."""
    write_all(tmp_path / "cells", seeds=(0, 1))
    records.write(tmp_path / "cells", kind="speed", config={"batch": 8}, result={"us": 3.25}, timings={})
    return tmp_path / "cells"


def damage(folder):
    path = sorted(folder.glob("*.json"))[0]
    path.write_text("{")
    return path


def test_list_shows_what_differs_and_what_came_out(folder, capsys):
    assert main(["list", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "tradeoff (42)" in said
    assert "speed (1)" in said
    for record in records.load_all(folder):
        (line,) = [line for line in said.splitlines() if record.path.stem in line]
        assert record.environment["time"][:10] in line
        assert all(f" {value} " in line for value in record.config.get("defense", {}).values() if value != 1.0)
    for heading in ("epsilon", "seed", "fidelity"):
        assert heading in said
    for heading in ("dataset", "budget", "chance", "victim"):  # the same in all
        assert heading not in said


def test_list_of_one_kind(folder, capsys):
    assert main(["list", str(folder), "--kind", "speed"]) == 0
    said = capsys.readouterr().out
    assert "tradeoff" not in said
    assert "3.25" in said


def test_damaged_records_are_listed_with_their_reason_and_left_out_of_tables(folder, tmp_path, capsys):
    path = damage(folder)
    assert main(["list", str(folder)]) == 1
    said = capsys.readouterr().out
    assert f"record {path} is damaged: not valid JSON" in said.splitlines()[-1]
    assert main(["export", str(folder), "--out", str(tmp_path / "t.csv")]) == 1
    said = capsys.readouterr()
    assert "42 records" in said.out
    assert said.err.count("\n") == 1
    assert f"record {path} is damaged" in said.err
    assert path.stem not in (tmp_path / "t.csv").read_text()


def test_show_finds_a_record_by_its_path_and_by_the_beginning_of_its_name(folder, capsys):
    record = records.load_all(folder, kind="tradeoff")[0]
    outputs = []
    for arguments in (
        [str(record.path)],
        [str(folder / record.path.stem[:9])],
        [record.path.stem[:9], "--folder", str(folder)],
        [record.path.name, "--folder", str(folder)],
    ):
        assert main(["show", *arguments]) == 0
        outputs.append(capsys.readouterr().out)
    assert set(outputs) == {outputs[0]}
    lines = [line.split() for line in outputs[0].splitlines()]
    assert ["attack.pool", "font_letters"] in lines
    assert ["fidelity", str(record.result["fidelity"])] in lines
    assert ["total_s", "14.0"] in lines
    assert ["versions.jax", record.environment["versions"]["jax"]] in lines
    assert "images of 1," in outputs[0]
    assert record.result["examples"][0]["image_png"] not in outputs[0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_says_what_it_wrote(folder, tmp_path, suffix, capsys):
    out = tmp_path / "new" / f"t{suffix}"
    assert main(["export", str(folder), "--out", str(out), "--kind", "tradeoff"]) == 0
    assert capsys.readouterr().out == f"{out}: 42 records\n"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "nowhere"], "there is no folder nowhere"),
        (["list", "empty"], "empty holds no records"),
        (["list", "cells", "--kind", "sped"], "cells holds no records of kind 'sped': there are speed, tradeoff"),
        (["export", "cells", "--out", "t.xlsx"], "out is t.xlsx: must end in .csv or .parquet"),
        (["export", "nowhere", "--out", "t.csv"], "there is no folder nowhere"),
        (["export", "cells", "--out", "cells.txt/t.csv"], "cannot write cells.txt/t.csv"),
        (["export", "broken", "--out", "t.csv"], "is damaged"),
        (["show", "e", "--folder", "cells"], "names in cells (e"),
        (["show", "cells"], "begins 43 names in cells"),
        (["show", "cells/zzz"], "cells holds no record whose name begins with 'zzz'"),
        (["show", "nowhere/zzz"], "there is no folder nowhere"),
        (["show", "broken/0123456789abcdef"], "record broken/0123456789abcdef.json is damaged"),
    ],
)
def test_an_error_is_one_line(folder, arguments, message, capsys, monkeypatch):
    root = folder.parent
    (root / "empty").mkdir()
    (root / "broken").mkdir()
    (root / "broken" / "0123456789abcdef.json").write_text("{}")
    (root / "cells.txt").write_text("no folder")
    monkeypatch.chdir(root)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1


def test_help_needs_neither_jax_nor_what_makes_tables():
    code = (
        "import sys; from pp_jax.results.__main__ import main;"
        "print([name for name in ('jax', 'rich', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    done = subprocess.run(
        [sys.executable, "-m", "pp_jax.results", "--help"], capture_output=True, text=True, check=True
    )
    assert "export" in done.stdout
