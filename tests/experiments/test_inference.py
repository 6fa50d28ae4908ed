"""What defenses are taken for, as a table, and who gets what."""

import pytest

from experiments import inference


@pytest.mark.slow
def test_the_table_names_what_each_defense_is_taken_for(command, session_runs):
    options = ("--listed", "Top1", "--others", "TopK(k=3)", "--stolen", "none", "--attackers", "plain", "--sets", "4")
    printed = command(inference, *options)
    table = (session_runs / "inference" / "confusion.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("|")}
    assert "| yes |" in rows["top-1"]
    assert "| no |" in rows["top-k, k = 3"]
    assert "worst_case.md" in printed
