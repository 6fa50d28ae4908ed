"""The benchmarks measure what they say: fair turns, ratios the right way up, a report that is whole."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pp_jax import models

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
KEYS = {"name", "ratio", "bound", "holds", "details"}


@pytest.fixture
def harness(scripts):
    """The timing module."""
    return scripts("harness")


@pytest.fixture
def run(scripts):
    """The script behind `make bench`."""
    return scripts("run")


def test_alternatives_take_turns_and_the_order_alternates(harness):
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = harness.paired(functions, repeats=3, warmup=2)
    assert "".join(calls) == "abcabc" + "abc" + "cba" + "abc"
    assert {name: len(seconds) for name, seconds in times.wall.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_of_times_in_the_same_turn(harness):
    """Work that slows both sides down in one turn does not change their ratio; nor does one odd turn."""
    times = harness.Times({"ours": [1.0, 10.0, 2.0], "theirs": [2.0, 20.0, 1.0]}, {"ours": [3.0], "theirs": [4.0]})
    assert times.ratio("ours", "theirs") == 0.5
    assert times.overhead("ours", "theirs") == -0.5
    assert times.excess("ours", "theirs") == -1.0
    assert times.cpu_ratio("ours", "theirs") == 0.75
    assert times.minimum("ours") == 1.0
    assert times.median("theirs") == 2.0
    assert times.milliseconds("ours", per=4) == {"median_ms": 500.0, "minimum_ms": 250.0}


def test_what_sleeps_takes_wall_time_and_no_processor_time(harness):
    times = harness.paired({"sleep": lambda: time.sleep(0.05)}, repeats=2, warmup=0)
    assert times.minimum("sleep") >= 0.05
    assert max(times.cpu["sleep"]) < 0.05


@pytest.mark.parametrize(
    ("ratio", "bound", "sense", "holds"),
    [
        (0.09, 0.10, "<=", True),
        (0.10, 0.10, "<=", True),
        (0.11, 0.10, "<=", False),
        (36, 35, ">=", True),
        (35, 35, ">=", True),
        (34, 35, ">=", False),
        (1e9, float("inf"), "<=", True),
        (float("nan"), 1, "<=", False),
        (float("nan"), 1, ">=", False),
    ],
)
def test_a_bound_holds_in_its_own_sense(harness, ratio, bound, sense, holds):
    row = harness.row("work", ratio, bound, sense=sense, details={"batch": 4})
    assert row.keys() == KEYS
    assert row["holds"] is holds
    assert row["bound"] == f"{sense} {bound:g}"
    assert ("yes" if holds else "NO") in harness.table([row])


def test_bad_input_is_refused(harness):
    with pytest.raises(ValueError, match="repeats must be at least 1, not 0"):
        harness.paired({}, repeats=0)
    with pytest.raises(ValueError, match="sense must be '<=' or '>=', not '<'"):
        harness.row("work", 1, 1, sense="<", details={})


def test_every_row_says_where_it_was_measured(harness, run):
    row = run.located(harness.row("a", 2.0, 1.15, details={"batch": 4}), harness.environment())
    assert row.keys() == KEYS
    assert {"batch", "versions", "machine", "threads"} <= row["details"].keys()
    assert {"python", "jax", "jaxlib"} <= row["details"]["versions"].keys()
    assert row["details"]["machine"]["cpu"]
    json.dumps(row)


def _fake(name, limit):
    """A benchmark that misses its bound, and one that cannot run."""
    if name == "gram":
        raise RuntimeError("no such thing")
    return [{"name": name, "ratio": 2.0, "bound": "<= 1", "holds": False, "details": {}}]


def test_a_missed_bound_is_reported_and_is_not_an_error(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "measure_isolated", _fake)
    out = tmp_path / "new" / "bench.json"
    assert run.main(run.Config(only=("forward", "mad_lenet"), out=out)) == 0
    assert [row["name"] for row in json.loads(out.read_text())] == ["forward", "mad_lenet"]
    printed = capsys.readouterr().out
    assert "0 of 2 bounds hold" in printed
    assert "does not hold: mad_lenet" in printed
    assert [path.name for path in out.parent.iterdir()] == ["bench.json"]


def test_a_benchmark_that_cannot_run_is_an_error_and_the_others_are_kept(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "measure_isolated", _fake)
    out = tmp_path / "bench.json"
    assert run.main(run.Config(only=("gram", "forward"), out=out)) == 1
    assert len(json.loads(out.read_text())) == 1
    assert "gram could not run: no such thing" in capsys.readouterr().err


def test_an_unwritable_folder_is_noticed_before_anything_is_measured(run, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(run, "measure_isolated", lambda name, limit: pytest.fail("measured before the check"))
    with pytest.raises(OSError, match="cannot write"):
        run.main(run.Config(out=tmp_path / "file" / "bench.json"))


def test_help_answers_at_once_without_loading_jax():
    start = time.monotonic()
    command = [sys.executable, "-X", "importtime", str(BENCHMARKS / "run.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "--only" in done.stdout
    assert not [line for line in done.stderr.splitlines() if line.split("|")[-1].strip() == "jax"]
    assert time.monotonic() - start < 10


def test_two_programs_must_agree_and_are_compared_a_piece_of_work(harness):
    harness.agree("sum", [1.0, 2.0], [1.0, 2.001])
    with pytest.raises(AssertionError, match="sum"):
        harness.agree("sum", [1.0, 2.0], [1.0, 2.1])
    row = harness.compared("sleep", lambda: time.sleep(0.02), lambda: time.sleep(0.04), 1, repeats=1, per=2)
    assert row["holds"]
    assert 10 <= row["details"]["ours"]["minimum_ms"] < row["details"]["theirs"]["minimum_ms"]
    assert row["ratio"] == row["details"]["ours"]["median_ms"] / row["details"]["theirs"]["median_ms"]


def test_every_benchmark_has_a_function_that_measures_it(scripts, run):
    pytest.importorskip("torch")
    for name in run.NAMES:
        script, function = run.PLACES.get(name, (name, "rows"))
        assert callable(getattr(scripts(script), function))


@pytest.mark.slow
def test_rows_of_the_forward_and_training_benchmarks_compare_with_pytorch(scripts):
    """A small batch: they check themselves that both sides compute the same."""
    pytest.importorskip("torch")
    rows = [*scripts("train_step").rows(3, 2), *scripts("forward").vgg_rows(1, 2), *scripts("forward").lenet_rows(1, 2)]
    assert all(row.keys() == KEYS for row in rows)
    assert [row["ratio"] > 0 for row in rows] == [True] * 5


@pytest.mark.slow
def test_every_defense_of_the_paper_has_its_time_beyond_the_undefended_victims(scripts):
    query_time = scripts("query_time")
    case = query_time.setting("LeNet K=4", query_time.models.lenet(4), (16, 16, 1), 4)
    rows = query_time.defense_rows(case, repeats=1)
    assert all(row.keys() == KEYS and row["holds"] for row in rows)
    names = ["MAD", "MAD-argmax", "reverse sigmoid", "random noise", "top-k", "rounding"]
    assert [row["name"].split(":")[0] for row in rows] == names
    for row in rows:
        milliseconds = [row["details"][f"{side}_a_query"]["median_ms"] for side in ("defended", "undefended")]
        assert row["ratio"] == pytest.approx(1e3 * (milliseconds[0] - milliseconds[1]))


@pytest.mark.slow
def test_overhead_rows_compare_the_black_box_with_the_forward_passes(scripts):
    mad = scripts("mad")
    case = mad.setting("LeNet K=3", mad.models.lenet(3), (16, 16, 1), 4)
    rows = mad.overhead_rows(case, {"extreme": 1e9, "argmax_preserving": -1}, repeats=1)
    assert all(row.keys() == KEYS for row in rows)
    assert [row["holds"] for row in rows] == [True, False]
    for row, oracle in zip(rows, ("extreme", "argmax_preserving"), strict=True):
        assert oracle in row["name"]
        assert "LeNet K=3" in row["name"]
        details = row["details"]
        expected = details["defended"]["median_ms"] / details["forwards"]["median_ms"] - 1
        assert row["ratio"] == pytest.approx(expected)


@pytest.mark.slow
def test_exact_rows_compare_the_optimum_with_the_heuristic_and_the_forward_passes(scripts):
    mad = scripts("mad")
    case = mad.setting("LeNet K=3", mad.models.lenet(3), (16, 16, 1), 4)
    rows = mad.exact_rows(case, repeats=1)
    assert all(row.keys() == KEYS for row in rows)
    milliseconds = {name: rows[0]["details"][name]["median_ms"] for name in ("exact", "extreme", "forwards")}
    assert rows[0]["ratio"] == pytest.approx(milliseconds["exact"] / milliseconds["extreme"])
    assert rows[1]["ratio"] == pytest.approx(milliseconds["exact"] / milliseconds["forwards"])


def test_a_speedup_is_the_time_of_a_query_there_over_that_of_a_query_here(scripts):
    harness, mad = scripts("harness"), scripts("mad")
    case = mad.Setting("LeNet", None, None, None, images=range(4))
    # Two queries in 8 s there, four in 2 s here: 4 s against half a second.
    wall = {"extreme": [2.0, 3.0], "one": [20.0, 9.0], "two": [8.0, 30.0]}
    row = mad._speedup_row(case, harness.Times(wall, wall), "extreme", ["one", "two"], 8, 2)
    assert row["ratio"] == 8
    assert row["holds"]
    assert row["bound"] == ">= 8"


def test_batches_are_compared_with_the_faster_way_of_one_image_at_a_time(scripts):
    harness, augmentation = scripts("harness"), scripts("augmentation")
    # Eight images in 2 s in a batch; two at a time of one in 10 s or 20 s: a quarter of a second against five.
    wall = {
        "ours": [2.0, 3.0],
        "PyTorch, one at a time, 1 threads": [10, 12],
        "PyTorch, one at a time, 2 threads": [20],
    }
    row = augmentation._row("JBDA", harness.Times(wall, wall), "PyTorch", 8, 2)
    assert row.keys() == KEYS
    assert row["ratio"] == 20
    assert row["holds"]
    assert row["bound"] == ">= 20"
    assert row["details"]["PyTorch, one at a time, 2 threads"]["minimum_ms"] == 10_000


@pytest.mark.slow
def test_augmentation_rows_compare_a_move_with_itself(scripts):
    augmentation = scripts("augmentation")
    (row,) = augmentation.rows({"JBDA": augmentation.SignedGradient()}, batch=2, single=1, repeats=1, torch=False)
    assert row.keys() == KEYS
    assert row["name"].endswith("(for information)")
    assert row["bound"] == ">= 1"
    details = row["details"]
    expected = details["ours, one at a time"]["minimum_ms"] / details["ours_in_a_batch"]["minimum_ms"]
    assert row["ratio"] == pytest.approx(expected)


@pytest.mark.slow
def test_every_detector_has_its_speed_and_bounded_bytes(scripts):
    rows = scripts("detectors").rows(accounts=20, queries=10, only=("label_mmd", "coverage"))
    assert all(row.keys() == KEYS for row in rows)
    speeds, sizes = rows[::2], rows[1::2]
    assert [row["name"].split(":")[0] for row in speeds] == ["label_mmd", "coverage"]
    assert all(row["ratio"] > 0 for row in speeds)
    assert [row["ratio"] for row in sizes] == [4 * 65, 1024]
    assert all(row["holds"] for row in rows)


@pytest.mark.slow
def test_a_committee_is_timed_as_one_program_and_one_after_another_and_every_rule_in_posteriors(scripts):
    committee = scripts("committee")
    first, *rules = committee.rows(repeats=1, queries=64, candidates=70, network=committee.models.mlp(10, hidden=(4,)))
    assert first.keys() == KEYS
    times = [first["details"][side]["median_ms"] for side in ("alone", "together")]
    assert first["ratio"] == pytest.approx(times[0] / times[1])
    assert [row["name"].split(",")[0] for row in rules] == ["entropy", "k-center", "DFAL"]
    assert all(row["ratio"] > 0 and row["holds"] for row in rules)


@pytest.mark.slow
def test_a_data_free_round_is_compared_with_the_steps_of_its_clone(scripts):
    (row,) = scripts("data_free").rows(1, network=models.mlp(10, hidden=(8,)), batch=4, width=2)
    assert row.keys() == KEYS
    assert row["name"] == "DFME round, 5 × 4 images / the clone's steps alone (for information)"
    assert row["ratio"] > 0


@pytest.mark.slow
def test_networks_of_attributes_are_timed_together_and_one_after_another(scripts):
    (row,) = scripts("population").rows(repeats=1, networks=2, steps=2)
    assert row["ratio"] > 0
    assert {"alone", "together", "device"} <= row["details"].keys()
