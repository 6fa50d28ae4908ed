"""Nine rules at one budget, each with an identity of its own."""

import pytest

from experiments import objectives


def test_nine_rules_are_nine_values():
    rules = objectives.rules(0.5)
    assert len({rule.text() for rule in rules}) == len({rule.identity()["content"] for rule in rules}) == 9


@pytest.mark.slow
def test_objectives_makes_its_table(command, session_runs):
    command(objectives, "--seeds", "0", "--epsilons", "0.5", "--attackers", "plain")
    text = (session_runs / "objectives" / "tradeoff.md").read_text("utf-8")
    for rule in objectives.rules(0.5):
        assert f"| {rule.text()} |" in text
