"""Accuracy against budget: fresh attackers at each, the worst case beside the plain one."""

import pytest

from experiments import budgets
from pp_jax import records


@pytest.mark.slow
def test_budgets_draws_a_curve_for_the_worst_case_and_the_plain_attacker(command, session_runs):
    options = ("--budgets", "40", "120", "--defense", "Top1", "--attackers", "plain", "--held-out", "0.25")
    text = command(budgets, *options)
    found = records.load_all(session_runs / "budgets", kind="tradeoff")
    assert {(r.result["queries"], r.config["attack"]["budget"]) for r in found} == {(40, 40), (120, 120)}
    assert (session_runs / "budgets" / "budgets.png").read_bytes().startswith(b"\x89PNG")
    table = (session_runs / "budgets" / "budgets.md").read_text("utf-8")
    assert "40 queries" in table
    assert "no defense, worst case" in table
    assert "no defense, plain |" in table
    assert "no defense, plain, best epoch |" in table
    assert "budgets.md" in text
