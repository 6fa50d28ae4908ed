"""The cost model finds the laws it is given, keeps what it has not seen apart, and a quick run is whole."""

import importlib
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"
CLOCKS = ("wall", "cpu")


@pytest.fixture(scope="module")
def cost_model(scripts):
    """The module of the fits."""
    return scripts("cost_model")


@pytest.fixture(scope="module")
def tables(scripts):
    """The module that writes Markdown."""
    return scripts("scaling_tables")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What a quick run wrote: its numbers, and a page with two markers."""
    folder = tmp_path_factory.mktemp("scaling")
    out, page = folder / "new" / "scaling.json", folder / "page.md"
    page.write_text("before\n<!-- begin: laws -->\nold\n<!-- end: laws -->\nbetween\n<!-- begin: checks -->\n")
    page.write_text(page.read_text() + "<!-- end: checks -->\nafter\n")
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), "--quick", "--out", str(out), "--markdown", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), page.read_text(), done.stdout


@given(
    st.floats(0.3, 2.5),
    st.floats(-9, 0),
    st.sampled_from([0.0, 0.2, 3.0, 20.0]),
)
def test_a_power_law_without_noise_is_found(exponent, log_factor, fixed):
    """Whatever the exponent, the unit and the fixed part (in units of the growing part at the smallest x)."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        fit_power_law = importlib.import_module("cost_model").fit_power_law
    finally:
        sys.path.remove(str(BENCHMARKS))
    x = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512.0])
    factor = 10**log_factor
    law = fit_power_law(x, factor * (fixed + x**exponent))
    assert law.exponent == pytest.approx(exponent, abs=0.02)
    assert law.fixed == pytest.approx(fixed * factor, rel=0.05, abs=1e-6 * factor)
    assert law(5120.0) == pytest.approx(factor * (fixed + 5120**exponent), rel=0.1)


@pytest.mark.parametrize("fixed", [0.0, 5.0])
def test_the_interval_of_an_exponent_covers_it_as_often_as_it_says(cost_model, fixed):
    """200 noisy repetitions: 95 % of the intervals hold the truth, give or take."""
    rng = np.random.default_rng(0)
    x = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256.0])
    covered = 0
    for _ in range(200):
        law = cost_model.fit_power_law(x, (fixed + x**0.9) * (1 + 0.03 * rng.standard_normal(len(x))))
        covered += law.low <= 0.9 <= law.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_small_fixed_part_is_left_out_and_a_large_one_is_not(cost_model):
    x = np.array([1, 4, 16, 64, 256.0])
    assert cost_model.fit_power_law(x, 0.02 + x).fixed == 0
    assert cost_model.fit_power_law(x, 1.0 + x).fixed == pytest.approx(1, rel=1e-3)


def test_an_exponent_is_what_the_last_measurements_say_when_the_fixed_part_hides_it(cost_model):
    """A straight line through the logarithms would say .25."""
    x = np.array([1, 4, 16, 64, 256.0])
    law = cost_model.fit_power_law(x, 100 + x)
    assert law.exponent == pytest.approx(1, abs=0.01)
    assert law(10_000) == pytest.approx(10_100, rel=0.01)


@pytest.mark.parametrize(
    ("x", "seconds"),
    [
        ([1, 2], [1, 2]),
        ([1, 1, 2], [1, 1, 2]),
        ([1, 2, 3], [1, 2]),
        ([1, 2, 0], [1, 2, 3]),
        ([1, 2, 3], [1, 2, math.nan]),
    ],
)
def test_numbers_that_say_nothing_are_refused(cost_model, x, seconds):
    with pytest.raises(ValueError, match="a power law needs"):
        cost_model.fit_power_law(x, seconds)


def _works():
    """Three networks at three batches."""
    sizes = {"small": (1e9, 1e6), "deep": (5e9, 2e6), "wide": (2e9, 5e7)}
    return [
        (name, {"call": 1.0, "flops": batch * flops, "parameters": held})
        for name, (flops, held) in sizes.items()
        for batch in (1, 8, 64)
    ]


def test_rates_are_found_and_predict_a_network_a_thousand_times_larger(cost_model):
    truth = {"call": 1e-4, "flops": 1e-11, "parameters": 2e-10}
    names, works = zip(*_works(), strict=True)
    rates = cost_model.fit_rates(works, [sum(truth[k] * w[k] for k in w) for w in works], names)
    assert rates.seconds == pytest.approx(truth, rel=1e-6)
    assert rates.error < 1e-6
    assert rates.held_out < 1e-6
    assert rates({"call": 1, "flops": 1e14, "parameters": 1e9}) == pytest.approx(1e-4 + 1e3 + 0.2)


def test_no_rate_is_negative(cost_model):
    names, works = zip(*_works(), strict=True)
    rates = cost_model.fit_rates(works, [1e-11 * w["flops"] + 1e-3 / w["parameters"] ** 0.1 for w in works], names)
    assert min(rates.seconds.values()) >= 0


def test_the_held_out_error_sees_a_network_that_is_unlike_the_others(cost_model):
    """The fit itself would hide it: only leaving the network out shows what a prediction for it is worth."""
    names, works = zip(*_works(), strict=True)
    seconds = [1e-11 * w["flops"] * (2 if name == "wide" else 1) for name, w in zip(names, works, strict=True)]
    rates = cost_model.fit_rates(works, seconds, names)
    assert rates.held_out > 0.2
    assert rates.held_out > rates.error


def test_rates_need_two_networks(cost_model):
    works = [{"flops": 1.0}, {"flops": 2.0}]
    with pytest.raises(ValueError, match="at least two groups: 2 works, 2 times, 1 groups"):
        cost_model.fit_rates(works, [1, 2], ["a", "a"])
    with pytest.raises(ValueError, match="positive times"):
        cost_model.fit_rates(works, [1, 0], ["a", "b"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (2e-6, "2 µs"),
        (0.0123, "12.3 ms"),
        (7, "7 s"),
        (7200, "2 h"),
        (2 * 86_400, "2 days"),
        (1e9, "31.7 years"),
    ],
)
def test_seconds_are_written_in_a_unit_that_fits(tables, value, text):
    assert tables.seconds(value) == text


def test_a_page_keeps_its_prose_and_refuses_a_broken_marker(tables):
    page = "a\n<!-- begin: x -->\nold\n<!-- end: x -->\nb\n"
    assert tables.filled(page, {"x": "new"}) == "a\n<!-- begin: x -->\nnew\n<!-- end: x -->\nb\n"
    with pytest.raises(ValueError, match="every marker must have its end"):
        tables.filled("<!-- begin: x -->\n", {"x": "new"})
    with pytest.raises(ValueError, match="a marker must name one of y, not x"):
        tables.filled(page, {"y": "new"})


@pytest.mark.slow
def test_the_page_of_the_project_has_a_place_for_every_table(scripts, tables, quick):
    result, _, _ = quick
    found = tables.tables(result)
    page = (BENCHMARKS.parent / "docs" / "scaling.md").read_text()
    assert all(f"<!-- begin: {name} -->" in page for name in found)
    assert tables.filled(page, found) != page


@pytest.mark.slow
def test_a_quick_run_writes_finite_positive_times(quick):
    result, _, _ = quick
    assert result["quick"]
    assert {"versions", "machine", "threads", "load_average"} <= result["environment"].keys()
    for row in [*result["rows"], *result["devices"], *(check["row"] for check in result["checks"])]:
        for clock in CLOCKS:
            assert row[clock]
            assert all(0 < seconds < math.inf for seconds in row[clock])
        assert min(row["batch"], row["classes"], row["queries"], row["devices"]) >= 1
    assert {row["devices"] for row in result["devices"]} == {1, 2}


@pytest.mark.slow
def test_every_prediction_is_there_before_it_is_checked(quick):
    result, _, printed = quick
    stages = {check["row"]["stage"] for check in result["checks"]}
    assert stages == {"MAD query", "training step", "stream"}
    for check in result["checks"]:
        name = check["name"]
        assert printed.index(f"| {name} |") < printed.index("predicted / measured")
        for clock in CLOCKS:
            assert check["ratio"][clock] == pytest.approx(check["predicted"][clock] / check["measured"][clock])
        assert check["measured"]["wall"] == min(check["row"]["wall"])


def test_every_check_is_larger_than_what_was_fitted(scripts):
    """More queries, or more operations an image and parameters than any network that the rates come from."""
    plan, stages = scripts("scaling_plan").FULL, scripts("scaling_stages")
    assert plan.long >= 10 * max(plan.lengths)
    largest = max(stages.count(stages.Case(a, 100, 1).shapes()[0]) for a in (*plan.convolutional, *plan.large))
    for case in (*plan.larger_queries, *plan.larger_steps):
        assert stages.count(case.shapes()[0]) > largest
        assert case.architecture not in (*plan.convolutional, *plan.large, *plan.networks)


@pytest.mark.slow
def test_tables_are_written_into_the_page(quick):
    _, page, _ = quick
    assert page.startswith("before\n<!-- begin: laws -->\n| stage, variable x |")
    assert "old" not in page
    assert "between\n<!-- begin: checks -->\n| larger run |" in page
    assert page.endswith("<!-- end: checks -->\nafter\n")


def test_the_page_of_the_project_has_the_tables_of_the_numbers_that_are_kept(scripts, tables):
    result = json.loads((BENCHMARKS / "scaling.json").read_text())
    page = (BENCHMARKS.parent / "docs" / "scaling.md").read_text()
    found = tables.tables(result)
    assert tables.filled(page, found) == page
    assert json.loads(scripts("scaling").text(result)) == result
    assert max(map(len, scripts("scaling").text(result).splitlines())) < 20_000
