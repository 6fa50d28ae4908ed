"""What we did not make stays bit for bit, whatever command runs beside it; and no result takes its place."""

import concurrent.futures
import importlib
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import pp_jax
import smallworld
from others import found, strewn
from pp_jax import _files, checkpoints, plots, records
from pp_jax.evaluation import attackers
from pp_jax.models import __main__ as models_cli
from pp_jax.results import __main__ as results_cli
from scripts import ROOT, SMALL, THEFT

TINY = (*SMALL, "--victim.model", "mlp", *THEFT, "--attack.model", "mlp")
PLAIN = ("--attackers", "plain")
SCRIPTS = {
    "worst_case": ("--defense", "Rounding(decimals=1)", *PLAIN),
    "steal": ("--defense", "Top1"),
    "tradeoff": ("--mad", "--mad-argmax", "--reverse-sigmoid", "--random-noise", "--top-k", *PLAIN),
    "objectives": ("--epsilons", "0.5", *PLAIN),
    "budgets": ("--defense", "none", "--budgets", "80", "160", *PLAIN),
    "responses": ("--defense", "Top1"),
    "amplification": ("--defense", "Top1"),
    "undefended": ("--attacks", "knockoff", "jbda", "--seed-size", "20", "--rounds-epochs", "1"),
}
OUTPUTS = {
    "worst_case": ("worst_case.md", "worst_case.png", "report.html"),
    "tradeoff": ("tradeoff.md", "tradeoff.png", "report.html"),
    "objectives": ("tradeoff.md", "tradeoff.png", "report.html"),
    "budgets": ("budgets.md", "budgets.png"),
    "responses": ("responses.md", "angles.png", "entropy.png"),
    "amplification": ("amplification.md",),
    "undefended": ("undefended.md",),
}


@pytest.fixture
def call(data_dir, monkeypatch):
    """Calls a script as a command line does."""

    def run(name, *options):
        script = importlib.import_module(f"experiments.{name}")
        monkeypatch.setattr(sys, "argv", [name, *TINY, *SCRIPTS[name], *map(str, options)])
        monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
        script.main()

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCRIPTS.keys() - {"objectives"}))  # which is as tradeoff, and takes minutes
def test_a_script_leaves_the_files_of_others_alone(name, call, tmp_path):
    folder = tmp_path / name
    others = {}
    for place in (tmp_path, tmp_path / "victims", folder, folder / "networks"):
        others |= strewn(place)
    for _ in range(2):  # the second time everything is there already
        call(name, "--runs", tmp_path)
        assert found(others) == others
    assert records.load_all(folder)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_file_of_others_in_the_place_of_a_result_stops_a_script_before_it_works(name, call, tmp_path):
    for output in OUTPUTS[name]:
        folder = tmp_path / output / name
        folder.mkdir(parents=True)
        (folder / output).write_text("precious")
        with pytest.raises(SystemExit) as end:
            call(name, "--runs", tmp_path / output)
        assert f"{output} is there and was not written by this version of pp_jax: it is left as it is" in str(end.value)
        assert "\n" not in str(end.value)
        assert [path.name for path in (tmp_path / output).rglob("*")] == [name, output]
        assert (folder / output).read_text() == "precious"


@pytest.mark.slow
def test_an_evaluation_leaves_the_files_of_others_alone_and_its_report_takes_no_place_of_theirs(tmp_path):
    others = strewn(tmp_path) | strewn(tmp_path / "networks")
    setup = smallworld.setup()
    report = pp_jax.evaluate(
        setup.victim, [pp_jax.Top1()], pool=setup.pool, test=setup.test, budget=64, seeds=(0,),
        attackers=[attackers.PLAIN], recipe=smallworld.RECIPE, runs_folder=tmp_path,
    )  # fmt: skip
    report.write(tmp_path)
    assert found(others) == others
    (tmp_path / "report.html").write_text("precious")
    (tmp_path / "worst_case.md").unlink()
    with pytest.raises(ValueError, match=r"report.html is there and was not written by"):
        report.write(tmp_path)
    assert (tmp_path / "report.html").read_text() == "precious"
    assert not (tmp_path / "worst_case.md").exists()


def written(folder):
    """A folder with two records."""
    for seed in (0, 1):
        records.write(folder, kind="x", config={"seed": seed}, result={"accuracy": 0.5}, timings={})
    return folder


def test_the_commands_on_records_leave_the_files_of_others_alone(tmp_path, capsys):
    others = strewn(written(tmp_path))
    name = min(path.stem for path in tmp_path.glob("*.json"))
    assert results_cli.main(["list", str(tmp_path)]) == 0
    assert results_cli.main(["show", str(tmp_path / f"{name}.json")]) == 0
    for out in ("all.csv", "all.parquet"):
        for _ in range(2):  # our own file is replaced
            assert results_cli.main(["export", str(tmp_path), "--out", str(tmp_path / out)]) == 0
        (tmp_path / out).write_text("precious")
        assert results_cli.main(["export", str(tmp_path), "--out", str(tmp_path / out)]) == 1
        assert f"error: {tmp_path / out} is there and was not written by" in capsys.readouterr().err
        assert (tmp_path / out).read_text() == "precious"
    assert found(others) == others


def test_json_of_others_among_records_is_named_and_stays(tmp_path):
    written(tmp_path)
    (tmp_path / "notes.json").write_text('{"precious": 1}')
    with pytest.warns(UserWarning, match=r"notes.json is no record: .*; it is left as it is$"):
        assert len(records.load_all(tmp_path)) == 2
    assert (tmp_path / "notes.json").read_text() == '{"precious": 1}'


def test_a_damaged_record_is_set_aside_when_it_is_done_again(tmp_path):
    path = records.write(tmp_path, kind="x", config={"seed": 0}, result={"accuracy": 0.5}, timings={})
    edited = path.read_text().replace("0.5", "0.75")
    path.write_text(edited)
    records.write(tmp_path, kind="x", config={"seed": 0}, result={"accuracy": 0.5}, timings={})
    assert records.load(path).result == {"accuracy": 0.5}
    (aside,) = tmp_path.glob("*.damaged")
    assert aside.read_text() == edited


def test_a_lock_of_others_in_the_place_of_a_claim_is_not_emptied(tmp_path):
    path = tmp_path / ".claims" / f"{records.key({'seed': 0})}.lock"
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(OSError, match="is no lock of ours"), records.claim(tmp_path, {"seed": 0}):
        pass
    assert path.read_text() == "precious"


@pytest.mark.parametrize("inner", ["", "pp_jax-training", "pp_jax-training/3"])
def test_what_a_run_kept_is_removed_without_what_others_put_there(inner, tmp_path):
    from pp_jax.training import sealing

    partial = tmp_path / "0123456789abcdef.partial"
    own = sealing.open_folder(partial)
    (own / "lock").touch()
    for epoch in ("3", "4"):
        (own / epoch / "state" / "d").mkdir(parents=True)
        (own / epoch / "state" / "d" / "x").write_text("ours")
        (own / epoch / "seal.json").write_text("{}")
    others = strewn(partial / inner)
    if inner == "pp_jax-training":  # this one has the name of ours
        del others[own / "lock"]
    records.discard(partial)
    assert found(others) == others
    assert not list(own.rglob("state"))
    for path in others:
        path.unlink()
    for folder in sorted((path for path in partial.rglob("*") if path.is_dir()), reverse=True):
        if folder != own:
            folder.rmdir()
    records.discard(partial)
    assert not partial.exists()


@pytest.mark.parametrize("left", ["mark", "nothing"])
def test_a_removal_that_was_killed_is_finished_by_the_next_one(left, tmp_path):
    from pp_jax.training import sealing

    partial = tmp_path / "0123456789abcdef.partial"
    own = sealing.open_folder(partial)
    if left == "nothing":
        (own / "written-by-pp_jax").unlink()
    records.discard(partial)
    assert not partial.exists()


def test_several_may_remove_one_folder_at_a_time(tmp_path):
    from pp_jax.training import sealing

    partial = tmp_path / "0123456789abcdef.partial"
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for _ in range(30):
            own = sealing.open_folder(partial)
            for epoch in range(3):
                _files.write_bytes(own / str(epoch) / "seal.json", b"{}")
            list(threads.map(records.discard, [partial] * 8))
            assert not partial.exists()


def test_weights_of_others_are_not_written_over(tmp_path):
    from safetensors.numpy import save_file

    from torch_files import SAVED

    out = tmp_path / "weights.safetensors"
    save_file({"precious": np.ones(3)}, out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="is there and was not written by this version of pp_jax"):
        checkpoints.save(out, {"w": np.ones(2, np.float32)}, metadata={})
    assert models_cli.main(["import-torch", str(SAVED["saved_zip.pt"]), "--model", "lenet", "--out", str(out)]) == 1
    assert out.read_bytes() == before
    ours = checkpoints.save(tmp_path / "ours.safetensors", {"w": np.ones(2, np.float32)}, metadata={})
    checkpoints.save(ours, {"w": np.zeros(2, np.float32)}, metadata={})
    np.testing.assert_array_equal(jax.tree.leaves(checkpoints.load(ours)[0]), [np.zeros(2, np.float32)])


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    checkpoints.save("~/w.safetensors", {"w": np.ones(2, np.float32)}, metadata={})
    assert checkpoints.load("~/w.safetensors")[0].keys() == {"w"}
    path = records.write("~/runs", kind="x", config={"seed": 0}, result={}, timings={})
    assert records.find("~/runs", {"seed": 0}).path == path == tmp_path / "runs" / path.name
    plots.save(plots.curves({"a": [(1, [2.0])]}, x_label="x", y_label="y", title="t"), "~/figure.png")
    ours = sorted(name for name in os.listdir(tmp_path) if not name.startswith("."))  # matplotlib keeps its cache there
    assert ours == ["figure.png", "runs", "w.safetensors"]


def test_make_clean_removes_what_make_made_and_nothing_else(tmp_path):
    for name in ("Makefile", "constraints.txt", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    others = strewn(tmp_path)
    for name in ("build/x", "dist/x", "mine.egg-info/PKG-INFO", "venv/bin/python", ".jax_cache/x", ".mypy_cache/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("precious")
        others[tmp_path / name] = b"precious"
    ours = ("own/made-by-make", "own/bin/python", ".jax_cache/jit_f-0-cache", ".ruff_cache/CACHEDIR.TAG")
    for name in ours:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for environment in ("venv", "own"):
        subprocess.run(["make", "clean", f"VENV={environment}"], cwd=tmp_path, check=True, capture_output=True)
    assert found(others) == others
    assert not [name for name in ours if (tmp_path / name).exists()]
