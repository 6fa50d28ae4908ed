"""The table of query strategies on small real files."""

import pytest

from experiments import attacks, common
from pp_jax import records
from pp_jax.evaluation import ACTIVE, STANDARD
from scripts import small


@pytest.mark.slow
def test_strategies_are_beside_the_plain_attacker_at_every_budget(data_dir, tmp_path):
    config = small(
        attacks.Config, data_dir, tmp_path, attackers=("ActiveThief, entropy", "Copycat CNN"), budgets=(40, 80),
        considered=100,
    )  # fmt: skip
    table = attacks.run(config)
    assert [row[0] for row in table.rows] == ["plain", "Knockoff, adaptive", "ActiveThief, entropy", "Copycat CNN"]
    assert "[" not in table.rows[0][1]
    assert all(cell.count("[") == 1 for row in table.rows[1:] for cell in row[1:])
    found = records.load_all(tmp_path / "attacks", kind="tradeoff")
    assert sorted(record.result["queries"] for record in found) == [40] * 4 + [80] * 4
    strategy = next(r.config["attack"]["strategy"] for r in found if "entropy" in r.config["attack"]["name"])
    assert strategy["considered"] == 100
    assert "At 40 queries" in table.note


def test_who_does_no_better_than_random_is_named():
    accuracy = {("plain", 10): [50.0], ("a", 10): [50.0], ("b", 10): [49.0, 50.5]}
    assert attacks._statement(accuracy, (10,)) == "At 10 queries 1 of 2 reach plain: below it are b."
    assert attacks._statement({("plain", 10): [50.0], ("a", 10): [60.0]}, (10,)).endswith("none is below it.")
    assert attacks._cell(accuracy, accuracy, "b", 10, lambda values: "x") == "x (x) [-0.2]"


def test_the_command_line_names_the_set_and_its_members():
    assert common.attacker_set(("active",)) == ACTIVE
    mixed = common.attacker_set(("plain", "SwiftThief", "hard label"))
    assert [member.name for member in mixed] == ["plain", "SwiftThief", "hard label"]
    assert STANDARD.named("plain") in tuple(ACTIVE)


def test_no_budgets_are_refused(data_dir, tmp_path):
    with pytest.raises(ValueError, match="budgets is empty: must hold at least one"):
        attacks.run(small(attacks.Config, data_dir, tmp_path, budgets=()))
