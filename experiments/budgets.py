"""The thief's accuracy against its query budget, with and without defenses.

    python experiments/budgets.py --preset mnist_notmnist --seeds 0 1 2        # about 25 minutes on 2 CPU cores

At each budget a fresh thief is trained on the first so many of the same queries, and its accuracy is that of the last
epoch; with `--validation .1` a tenth of its answers is held out and the best epoch on them is reported beside it.
Writes a record per cell, `budgets.md` and `budgets.png` into `runs/budgets`.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import tyro

import presets
import steal
from cells import grid, tables
from cells.machines import Machines
from owners.defenses import Defense
from thieves import attackers

DEFENSES = {
    "no defense": Defense("none"),
    "MAD, ε = 0.99": Defense("mad", epsilon=0.99),
    "MAD-argmax, ε = 0.99": Defense("mad_argmax", epsilon=0.99),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Defenses × budgets × seeds."""

    preset: presets.Name = "mnist_font_letters"
    """Victim and pool: see `python experiments/presets.py`."""
    size: tyro.conf.OmitArgPrefixes[presets.Size] = dataclasses.field(default_factory=presets.Size)
    attack: attackers.Name = "knockoff"
    """How queries are chosen."""
    budgets: tuple[int, ...] = (500, 1000, 2000, 5000, 10_000)
    """Queries; `--budget` plays no part here."""
    validation: float = 0.0
    """Share of the answers that is held out."""
    seeds: tuple[int, ...] = (0,)
    """Each repeats the attack; the victim stays."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "budgets"
    """Where below it the cells, the table and the figure go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self, defense: Defense, budget: int) -> list[steal.Config]:
        """One configuration per seed."""
        victim = self.size.victim(self.preset)
        attack = self.size.attack(self.preset, name=self.attack, budget=budget, validation=self.validation)
        return steal.Config(victim, attack, defense, runs=self.runs, data_dir=self.data_dir).over(self.seeds)


def run(config: Config) -> tables.Table:
    """Compute what is missing; draw the figure; the table."""
    from pp_jax import plots

    cells = [
        cell for defense in DEFENSES.values() for budget in config.budgets for cell in config.cells(defense, budget)
    ]
    found = grid.run(cells, config.folder, config.machines)
    rows, series = [], {}
    measures = {"": "attacker_accuracy"}
    if config.validation:
        measures[", best epoch on held-out answers"] = "chosen_attacker_accuracy"
    for name, defense in DEFENSES.items():
        for suffix, measure in measures.items():
            numbers = [tables.of(config.cells(defense, budget), found, measure) for budget in config.budgets]
            rows.append([name + suffix, *map(tables.percent, numbers)])
            series[name + suffix] = _points(config.budgets, numbers)
    figure = plots.curves(
        series,
        x_label="query budget",
        y_label="thief's test accuracy (%)  —  lower is better",
        title=config.preset,
        logx=True,
    )
    plots.save(figure, config.runs / config.folder / "budgets.png")
    note = "The thief's test accuracy in %; mean ± half the range over seeds. " + tables.provenance(found.values())
    headings = ("defense", *(f"{budget} queries" for budget in config.budgets))
    return tables.Table(f"Accuracy against budget, {config.preset}, {config.attack}", headings, rows, note)


def _points(budgets: tuple[int, ...], numbers: list[list[Any]]) -> list[tuple[float, list[float]]]:
    """Budget and percent over seeds."""
    return [(budget, [100 * value for value in values]) for budget, values in zip(budgets, numbers, strict=True)]


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    if not config.seeds or not config.budgets:
        sys.exit("error: seeds and budgets must hold at least one number each")
    grid.main(lambda: run(config), config.runs / config.folder / "budgets.md")


if __name__ == "__main__":
    main()
