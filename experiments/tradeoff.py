"""The main job: what every defense costs its owner, and what it saves.

    python experiments/tradeoff.py                                   # MNIST <- font_letters, about 20 minutes
    python experiments/tradeoff.py --attack.pool notmnist --seeds 0 1 2

Trains a victim (MNIST, LeNet), puts each defense of a grid in front of it, steals it through 10 000 queries, and
writes a record per cell, `tradeoff.png` and a self-contained `report.html` into `runs/tradeoff`. Times are for 2 CPU
cores, a cell takes 45 s there. A killed run resumes where it stopped: finished cells are never computed again.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import tyro

import plot
import steal
from cells import grid
from cells.machines import Machines
from owners.defenses import Defense
from thieves.attackers import Attack
from train_victim import Victim


@dataclasses.dataclass(frozen=True)
class Grid:
    """The strengths at which each defense is tried; give none to leave a defense out."""

    mad: tuple[float, ...] = (0.5, 0.99, 1.5)
    """MAD: L1 budgets ε. At exactly 1 a saturated posterior ties with its poison: use .99."""
    mad_argmax: tuple[float, ...] = (0.5, 0.99, 1.5)
    """MAD-argmax: L1 budgets ε."""
    reverse_sigmoid: tuple[float, ...] = (0.6, 1.0)
    """Reverse sigmoid: magnitudes β."""
    gamma: float = 0.2
    """Reverse sigmoid: slope γ."""
    random_noise: tuple[float, ...] = (10.0, 50.0, 200.0)
    """Random noise: L1 radii in logit space."""
    top_k: tuple[int, ...] = (3,)
    """Top-k: numbers of classes."""
    rounding: tuple[int, ...] = (1,)
    """Rounding: numbers of decimals."""
    top_1: bool = True
    """The label alone."""

    def defenses(self) -> Iterator[Defense]:
        """Every defense of the grid, the undefended victim first."""
        yield Defense("none")
        yield from (Defense("mad", epsilon=epsilon) for epsilon in self.mad)
        yield from (Defense("mad_argmax", epsilon=epsilon) for epsilon in self.mad_argmax)
        yield from (Defense("reverse_sigmoid", beta=beta, gamma=self.gamma) for beta in self.reverse_sigmoid)
        yield from (Defense("random_noise", radius=radius) for radius in self.random_noise)
        yield from (Defense("top_k", k=k) for k in self.top_k)
        yield from (Defense("rounding", decimals=decimals) for decimals in self.rounding)
        yield from [Defense("top_1")] * self.top_1


@dataclasses.dataclass(frozen=True)
class Config:
    """Defenses × strengths × seeds."""

    victim: Victim = dataclasses.field(default_factory=Victim)
    attack: Attack = dataclasses.field(default_factory=Attack)
    grid: tyro.conf.OmitArgPrefixes[Grid] = dataclasses.field(default_factory=Grid)
    seeds: tuple[int, ...] = (0,)
    """Each repeats the attack with another order of queries, thief, surrogate and key; the victim stays."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "tradeoff"
    """Where below it the cells, the figure and the report go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self) -> list[steal.Config]:
        """One configuration per cell."""
        return [
            steal.Config(self.victim, self.attack, defense, seed=seed, runs=self.runs, data_dir=self.data_dir)
            for defense in self.grid.defenses()
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
    print(*paths, f"{config.runs / config.folder}/*.json", sep="\n")


if __name__ == "__main__":
    main()
