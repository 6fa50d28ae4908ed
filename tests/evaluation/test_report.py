"""Rows of a report: the worst case, intervals, and the doubts of docs/checks.md."""

import dataclasses
from pathlib import Path

import pytest

from pp_jax.defenses import MAD, chain
from pp_jax.evaluation import Entry, Equalized, Report, Row, attackers
from pp_jax.evaluation.report import OUTPUTS, spread

CHECKS = (Path(__file__).parents[2] / "docs" / "checks.md").read_text("utf-8")
NONE = Row("no defense", Equalized(Entry(chain())), {"plain": [80.0, 82.0]}, [99.0, 99.0], [0.0], [80.0], 10.0, ())
USUAL = Row(
    "MAD, ε = 0.5", Equalized(Entry(MAD, epsilon=0.5), target=0.5), {"plain": [50.0, 52.0], "inversion": [79.0, 81.0]},
    [99.0, 99.0], [0.49, 0.5], [80.0], 10.0, (),
)  # fmt: skip


def report(**changes):
    """Two rows, the second with changes."""
    members = (attackers.PLAIN, attackers.INVERSION)
    return Report("title", members, (NONE, USUAL._replace(**changes)), "of a test")


def test_a_row_that_nothing_speaks_against():
    assert report().doubts() == []
    assert report().worst(USUAL) == ("inversion", [79.0, 81.0])


@pytest.mark.parametrize(
    ("changes", "doubt", "row_of_the_docs"),
    [
        ({"entry": Equalized(Entry(MAD), 0.5, False)}, "calibration did not reach its target", "did not reach"),
        ({"l1": [0.3]}, "mean L1 on the queries is 0.30, not 0.5", "mean L1 on the queries is"),
        ({"defender": [15.0, 18.0]}, "the defender answers no better than at random", "no better than at random"),
        (
            {"attacks": {"plain": [50.0], "inversion": [2.0]}},
            "inversion is below chance: what is wrong so reliably can be inverted",
            "is below chance",
        ),
        ({"attacks": {"plain": [50.0]}}, "no informed attacker was tried", "no informed attacker was tried"),
        (
            {"attacks": {"plain": [50.0], "inversion": [90.0]}},
            "an attacker gets more than without the defense: its recovery adds knowledge of its own",
            "gets more than without the defense",
        ),
    ],
)
def test_a_row_that_should_not_be_trusted_says_why_and_the_docs_say_what_to_do(changes, doubt, row_of_the_docs):
    assert report(**changes).doubts() == [f"MAD, ε = 0.5: {doubt}"]
    assert row_of_the_docs in CHECKS


def test_an_interval_is_students():
    assert spread([50.0]) == "50.0"
    assert spread([49.0, 50.0, 51.0]) == "50.0 ± 2.5"  # 4.303 · 1/√3


def test_the_headline_quotes_the_worst_case_and_who_it_was():
    assert "80.0 % (inversion), against 81.0 % without a defense" in report().headline()


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_report_takes_no_place_of_a_file_that_it_did_not_write(output, tmp_path):
    (tmp_path / output).write_text("precious")
    with pytest.raises(ValueError, match=f"{output} is there and was not written by this version of pp_jax"):
        report().write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [output]
    (tmp_path / output).unlink()
    for _ in range(2):  # our own files are replaced
        report().write(tmp_path)


def test_a_yardstick_stands_in_the_table_but_is_no_worst_case():
    insider = dataclasses.replace(attackers.INVERSION, privileged=True)
    told = Report("title", (attackers.PLAIN, insider), (NONE, USUAL), "of a test")
    assert told.worst(USUAL)[0] == "plain"
    assert "inversion" in told.table().headings
