"""Which poison harms a student most, at equal budget? Nine rules, two budgets, three seeds.

    python experiments/objectives.py                       # MNIST <- notMNIST; about 45 minutes on 2 CPU cores
    python experiments/objectives.py --attack.pool font_letters

Prints and writes what `tradeoff.py` does, into `runs/objectives`: the angle that each rule reaches on the queries, how
far it moves them, and the accuracy of the thief who trains on its answers. docs/theory.md says what that means. A
killed run resumes where it stopped.
"""

import dataclasses
import sys
from pathlib import Path

import tyro

import plot
import steal
from cells import grid
from cells.machines import Machines
from owners import defenses
from owners.defenses import Defense
from thieves.attackers import Attack
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
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self) -> list[steal.Config]:
        """One configuration per cell, the undefended victim first."""
        rules = [Defense("none"), *(Defense(rule, epsilon=e) for e in self.epsilons for rule in self.rules)]
        return [
            steal.Config(self.victim, self.attack, rule, seed=seed, runs=self.runs, data_dir=self.data_dir)
            for rule in rules
            for seed in self.seeds
        ]


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)

    try:
        grid.run(config.cells(), config.folder, config.machines)
        paths = plot.run(plot.Config(config.runs / config.folder))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the finished cells")
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
