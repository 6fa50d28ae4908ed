"""Which poison harms a student most, at equal budget? Nine rules, two budgets, three seeds.

    python experiments/objectives.py                       # MNIST <- notMNIST; about 45 minutes on 2 CPU cores
    python experiments/objectives.py --attack.pool font_letters

Prints and writes a table (`runs/objectives/objectives.md`): the angle that each rule reaches on the queries, how far it
moves them, and the accuracy of the thief who trains on its answers. What the evidence says is in docs/theory.md. A
killed run resumes where it stopped.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import defenses
import steal
import tradeoff
import tyro
from defenses import Defense
from steal import Attack
from train_victim import Victim

RULES: tuple[defenses.Name, ...] = (
    "mad",
    "mad_interpolated",
    "mad_exact",
    "min_inner",
    "least_likely",
    "next_class",
    "constant_class",
    "random_class",
    "second_likeliest",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Rules × budgets × seeds."""

    victim: Victim = dataclasses.field(default_factory=Victim)
    attack: Attack = dataclasses.field(default_factory=lambda: Attack(pool="notmnist"))
    rules: tuple[defenses.Name, ...] = RULES
    """Which rules."""
    epsilons: tuple[float, ...] = (0.5, 0.99)
    """L1 budgets."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each repeats the attack with another order of queries, thief, surrogate and key."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "objectives"
    """Where below it the cells and the table go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""

    def cells(self) -> list[steal.Config]:
        """One configuration per cell, the undefended victim first."""
        rules = [Defense("none"), *(Defense(rule, epsilon=e) for e in self.epsilons for rule in self.rules)]
        return [
            steal.Config(self.victim, self.attack, rule, seed, self.runs, self.data_dir)
            for rule in rules
            for seed in self.seeds
        ]


def table(records: Sequence[Any]) -> str:
    """The table in Markdown, mean ± half the range over seeds."""
    from pp_jax import summary

    lines = [
        "| rule | ε | mean angle (°) | mean L1 | kept argmax (%) | defender (%) | thief (%) |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = summary.rows(records)
    for row in sorted(rows, key=lambda row: (row["strength"] or 0, row["attacker_accuracy"].mean)):
        measures = [
            _digits(row["angle"], 1, 1),
            _digits(row["l1"], 1, 2),
            _digits(row["kept_argmax"], 100, 0),
            _digits(row["defender_accuracy"], 100, 1),
            _digits(row["attacker_accuracy"], 100, 1),
        ]
        budget = "" if row["strength"] is None else f"{row['strength']:g}"
        lines.append(f"| {row['name']} | {budget} | {' | '.join(measures)} |")
    return "\n".join(lines) + "\n"


def _digits(value: Any, scale: float, digits: int) -> str:
    """Mean ± half range."""
    spread = f"{scale * value.half:.{digits}f}"
    return f"{scale * value.mean:.{digits}f}" + (f" ± {spread}" if float(spread) else "")


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    from pp_jax import _files

    try:
        text = table(tradeoff.run(config.cells(), config.folder))
        path = _files.write_bytes(config.runs / config.folder / "objectives.md", text.encode())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the finished cells")
    print(text, path, sep="\n")


if __name__ == "__main__":
    main()
