"""The experiment about answers, run as a user runs it, on a small set of real files."""

import json

import numpy as np
import pytest
from PIL import Image

from pp_jax import data, records
from pp_jax.data.spec import Spec
from pp_jax.data.types import Raw
from scripts import SMALL, THEFT, script, stripes

pytestmark = pytest.mark.slow
SETTING = (*SMALL, *THEFT)
GRID = ("--mad", ".5", "2", "--mad-argmax", ".5", "--reverse-sigmoid")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data directory with the stripes prepared in it."""
    folder = tmp_path_factory.mktemp("data")
    raw = Raw({"train": stripes(400, 0), "test": stripes(100, 1)}, ("top", "right", "bottom", "left"))
    data.prepare(Spec("stripes", "1.0.0", (None, None, 1), "For tests.", make=lambda track: raw), data_dir=folder)
    return folder


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """A folder with the results of one run, and what that printed."""
    folder = tmp_path_factory.mktemp("runs")
    status, text = script("answers.py", "--runs", folder, *SETTING, *GRID, data_dir=data_dir)
    assert status == 0, text
    (folder / "printed").write_text(text)
    return folder


def by_defense(runs):
    cells = records.load_all(runs / "answers", kind="answers")
    return {(cell.config["defense"]["name"], cell.config["defense"].get("epsilon")): cell for cell in cells}


def test_every_defense_has_a_record_of_all_its_answers(runs):
    found = by_defense(runs)
    assert set(found) == {("none", None), ("mad", 0.5), ("mad", 2.0), ("mad_argmax", 0.5)}
    for cell in found.values():
        result = cell.result
        assert cell.config["attack"] == {"pool": "stripes", "budget": 160, "model": "lenet"}
        assert sum(result["query_angle_degrees"]["counts"]) == result["queries"] == 160
        assert len(result["query_angle_degrees"]["counts"]) == 36
        for name, images in (("answers", 160), ("pool", 160), ("own", 100)):
            entropy = result[f"entropy_of_{name}"]
            assert (sum(entropy["counts"]), len(entropy["counts"])) == (images, 30)
            assert 0 <= entropy["p1"] <= entropy["p10"] <= entropy["p50"] <= entropy["max"] <= np.log(4)
    assert len({json.dumps(cell.result["entropy_of_pool"]) for cell in found.values()}) == 1


def test_a_larger_budget_turns_the_gradient_further_and_no_defense_not_at_all(runs):
    results = {defense: cell.result for defense, cell in by_defense(runs).items()}
    angles = {defense: result["query_angle_degrees"] for defense, result in results.items()}
    assert angles["none", None]["max"] < 0.1
    assert results["none", None]["entropy_of_answers"] == results["none", None]["entropy_of_pool"]
    assert angles["none", None]["mean"] < angles["mad_argmax", 0.5]["mean"] <= angles["mad", 0.5]["mean"] + 1e-3
    assert angles["mad", 0.5]["mean"] < 90 < angles["mad", 2.0]["mean"]
    assert results["mad", 0.5]["query_l1"]["max"] <= 0.5 + 1e-6
    assert results["mad", 2.0]["entropy_of_answers"]["max"] < 1e-3  # a vertex of the simplex
    assert results["mad", 2.0]["defender_accuracy"] < 0.1 < 0.9 < results["mad_argmax", 0.5]["defender_accuracy"]


def test_the_answers_are_those_that_a_thief_gets(data_dir, runs):
    defense = ("--defense.name", "mad", "--defense.epsilon", ".5")
    status, text = script("steal.py", "--runs", runs, *SETTING, *defense, data_dir=data_dir)
    assert status == 0, text
    (stolen,) = records.load_all(runs / "steal", kind="tradeoff")
    asked = by_defense(runs)["mad", 0.5].result
    for name in ("queries", "query_l1", "query_kept_argmax", "victim_accuracy", "defender_accuracy"):
        assert asked[name] == stolen.result[name], name
    assert asked["query_angle_degrees"].items() > stolen.result["query_angle_degrees"].items()


def test_tables_and_figures_say_what_was_measured(runs):
    text, printed = (runs / "answers" / "angles.md").read_text("utf-8"), (runs / "printed").read_text()
    angles = {key: cell.result["query_angle_degrees"] for key, cell in by_defense(runs).items()}
    line = next(line for line in text.splitlines() if line.startswith("| MAD, ε = 2 |"))
    assert [float(cell) for cell in line.split("|")[2:6]] == [
        pytest.approx(angles["mad", 2.0][name], abs=0.051) for name in ("mean", "p1", "p10", "p50")
    ]
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    clean = ["clean, stripes (test)", "clean, stripes"]
    defenses = ["MAD, ε = 0.5", "MAD, ε = 2", "MAD-argmax, ε = 0.5"]
    assert rows == ["defense", "no defense", *defenses, "posteriors", *clean, *defenses]
    for shown in (text, printed):
        assert "mean angular deviation 24.9° for ε in [.95, .99]" in " ".join(shown.split())
    for name in ("angles.md", "angles.png", "entropy.png"):
        assert str(runs / "answers" / name) in printed
    for name in ("angles.png", "entropy.png"):
        with Image.open(runs / "answers" / name) as image:
            assert image.width == 1200


def test_a_stopped_run_goes_on_from_the_finished_defenses(data_dir, runs):
    cells = by_defense(runs)
    stamps = {cell.path: cell.path.stat().st_mtime_ns for cell in cells.values()}
    lost = cells["none", None]
    lost.path.unlink()
    status, text = script("answers.py", "--runs", runs, *SETTING, *GRID, data_dir=data_dir)
    assert status == 0, text
    assert [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp] == [lost.path]
    assert records.load(lost.path).result == lost.result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--attack.name", "jbda"), "attack.name is jbda: must be knockoff"),
        (("--attack.budget", "401"), "budget is 401: must be at least 1 and at most 400"),
        (("--mad", "2.1"), "epsilon must be at least 0 and at most 2 in L1, not 2.1"),
    ],
)
def test_bad_input_is_one_clear_error_and_nothing_is_written(options, message, data_dir, runs):
    before = sorted(runs.rglob("*"))
    status, text = script("answers.py", "--runs", runs, *SETTING, *options, data_dir=data_dir)
    assert status == 1
    assert message in text
    assert "Traceback" not in text
    assert sorted(runs.rglob("*")) == before
