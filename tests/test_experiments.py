"""Every script of the experiments, run as a user runs it, on a small set of real files."""

import json
import time

import pytest

from pp_jax import records
from scripts import EXPERIMENTS, SMALL, THEFT, script


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of results that the tests of this module share: the victim is trained once."""
    return tmp_path_factory.mktemp("runs")


def test_train_victim_learns_and_is_found_again(data_dir, runs):
    status, first = script(
        "train_victim.py", "--runs", runs, *(a.replace("victim.", "") for a in SMALL), data_dir=data_dir
    )
    assert status == 0, first
    (record,) = records.load_all(runs / "victims", kind="victim")
    assert record.result["accuracy"] > 0.9
    assert record.path.with_suffix(".safetensors").exists()
    assert not record.path.with_suffix(".partial").exists()
    stamp = record.path.stat().st_mtime_ns
    status, second = script(
        "train_victim.py", "--runs", runs, *(a.replace("victim.", "") for a in SMALL), data_dir=data_dir
    )
    assert (status, record.path.stat().st_mtime_ns) == (0, stamp), second


def test_tradeoff_writes_records_figure_and_report_and_resumes(data_dir, runs):
    grid = (
        "--mad",
        ".5",
        "1.5",
        "--mad-argmax",
        "--reverse-sigmoid",
        "1",
        "--random-noise",
        "--rounding",
        "--no-top-1",
    )
    status, text = script("tradeoff.py", "--runs", runs, *SMALL, *THEFT, *grid, data_dir=data_dir)
    assert status == 0, text
    cells = records.load_all(runs / "tradeoff", kind="tradeoff")
    names = [(cell.config["defense"]["name"], cell.config["defense"].get("epsilon")) for cell in cells]
    assert sorted(names, key=str) == [
        ("mad", 0.5),
        ("mad", 1.5),
        ("none", None),
        ("reverse_sigmoid", None),
        ("top_k", None),
    ]
    results = dict(zip(names, (cell.result for cell in cells), strict=True))
    assert all(result["queries"] == 160 for result in results.values())
    assert results["none", None]["query_l1"]["max"] == 0
    assert 0 < results["mad", 0.5]["query_l1"]["max"] <= 0.5 + 1e-6
    assert results["mad", 1.5]["attacker_accuracy"] < results["none", None]["attacker_accuracy"]
    assert (runs / "tradeoff" / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (runs / "tradeoff" / "report.html").read_text("utf-8")
    assert "tradeoff.png" in text
    stamps = {cell.path: cell.path.stat().st_mtime_ns for cell in cells}
    cells[0].path.unlink()
    status, text = script("tradeoff.py", "--runs", runs, *SMALL, *THEFT, *grid, data_dir=data_dir)
    assert status == 0, text
    changed = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert changed == [cells[0].path]
    again = json.loads(cells[0].path.read_text())["result"]
    assert again == cells[0].result  # the same cell, another process, the same numbers


@pytest.mark.slow
def test_cells_computed_at_once_are_those_computed_one_after_another(data_dir, runs, tmp_path):
    grid = (
        "--mad",
        ".5",
        "--mad-argmax",
        "--reverse-sigmoid",
        "1",
        "--random-noise",
        "10",
        "--rounding",
        "--seeds",
        "0",
        "1",
    )
    found = {}
    for way in ("loop", "vmap", "chunk"):
        options = ("--runs", tmp_path / way, "--way", way, "--memory-gib", ".03")
        status, text = script("tradeoff.py", *options, *SMALL, *THEFT, *grid, data_dir=data_dir)
        assert status == 0, text
        found[way] = records.load_all(tmp_path / way / "tradeoff")
        assert ("as one program" in text, "thefts at a time" in text) == (way == "vmap", way == "chunk"), text
    for way in ("vmap", "chunk"):
        for cell, other in zip(found["loop"], found[way], strict=True):
            assert cell.config == other.config
            for share in ("attacker_accuracy", "fidelity", "defender_accuracy", "query_kept_argmax"):
                assert cell.result[share] == pytest.approx(other.result[share], abs=0.01)
            assert cell.result["query_l1"] == pytest.approx(other.result["query_l1"], abs=1e-4)


def test_plot_draws_again_from_the_records_alone(data_dir, runs, tmp_path):
    status, text = script("plot.py", "--runs", runs / "tradeoff", "--out", tmp_path, data_dir=data_dir)
    assert status == 0, text
    assert {path.name for path in tmp_path.iterdir()} == {"tradeoff.png", "report.html", "tradeoff.md"}


@pytest.mark.slow
def test_steal_is_one_cell(data_dir, runs):
    defense = ("--defense.name", "top_1")
    status, text = script("steal.py", "--runs", runs, *SMALL, *THEFT, *defense, data_dir=data_dir)
    assert status == 0, text
    (record,) = records.load_all(runs / "steal", kind="tradeoff")
    assert record.config["defense"] == {"name": "top_1"}
    assert record.result["query_kept_argmax"] == 1
    assert "top-1" in text


@pytest.mark.slow
def test_objectives_makes_its_table(data_dir, runs):
    options = ("--seeds", "0", "--epsilons", ".5")
    status, text = script("objectives.py", "--runs", runs, *SMALL, *THEFT, *options, data_dir=data_dir, timeout=600)
    assert status == 0, text
    lines = (runs / "objectives" / "tradeoff.md").read_text("utf-8").splitlines()
    assert sum(line.startswith("| ") for line in lines) == 1 + 1 + 9


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("steal.py", ("--attack.budget", "0"), "budget is 0: must be at least 1 and at most 400"),
        ("steal.py", ("--attack.budget", "401"), "budget is 401: must be at least 1 and at most 400"),
        ("steal.py", ("--defense.epsilon", "2.1"), "epsilon must be at least 0 and at most 2 in L1, not 2.1"),
        ("steal.py", ("--defense.epsilon", "-0.1"), "not -0.1"),
        ("steal.py", ("--attack.pool", "nothing"), "no set of that name is prepared"),
        ("steal.py", ("--attack.pool", "mnist"), "python -m pp_jax.data prepare mnist"),
        ("steal.py", ("--attack.validation", "1"), "validation is 1.0: must be at least 0 and below 1"),
        ("steal.py", ("--attack.name", "online", "--defense.name", "none"), "defense none has no surrogate"),
        ("steal.py", ("--attack.name", "knockoff_adaptive", "--attack.rewards"), "rewards is empty"),
        ("steal.py", ("--attack.warm-start", "no.safetensors"), "warm_start is no.safetensors: there is no such file"),
        ("train_victim.py", ("--dataset", "stripes", "--weights", "no.safetensors"), "weights is no.safetensors"),
        ("train_victim.py", ("--dataset", "mnist"), "python -m pp_jax.data prepare mnist"),
        ("train_victim.py", ("--dataset", "stripes", "--epochs", "0"), "epochs must be at least 1, not 0"),
        ("plot.py", ("--runs", "nowhere"), "runs is nowhere"),
    ],
)
def test_bad_input_is_one_clear_error_and_nothing_is_written(name, options, message, data_dir, runs, tmp_path):
    common = ("--runs", runs, *SMALL, *THEFT) if name == "steal.py" else ()
    (runs / "steal").mkdir(exist_ok=True)  # proof that it can be written is the first thing that a theft asks for
    before = sorted(runs.rglob("*"))
    status, text = script(name, *common, *options, data_dir=data_dir, cwd=tmp_path)
    assert status == 1
    assert message in text
    assert "Traceback" not in text
    assert sorted(runs.rglob("*")) == before
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_output_folder_that_cannot_be_written_is_refused_before_work(data_dir, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    status, text = script("steal.py", "--runs", blocked, *SMALL, *THEFT, data_dir=data_dir)
    assert status == 1
    assert str(blocked) in text
    assert "Traceback" not in text


@pytest.mark.parametrize("name", sorted(path.name for path in EXPERIMENTS.glob("*.py")))
def test_help_is_quick(name):
    taken = []
    while len(taken) < 2 and min(taken, default=9) > 3:  # the first run may have to compile bytecode
        started = time.perf_counter()
        status, text = script(name, "--help", timeout=60)
        taken.append(time.perf_counter() - started)
        assert status == 0
        assert "usage:" in text
    assert min(taken) <= 3
