"""What every defense costs its defender, and what it saves, at several strengths.

    python -m experiments.tradeoff                                   # MNIST ← font_letters, about 90 minutes
    python -m experiments.tradeoff --attack.pool notmnist --seeds 0 1 2 --attackers standard

Trains a victim (MNIST, LeNet), puts each defense of a grid in front of it, and steals it with a plain attacker, one
that trains on hard labels, and those that know the defense. Writes a record per run, and into `runs/tradeoff`
`tradeoff.png`, `tradeoff.md` and a self-contained `report.html`: the worst case beside the plain attacker. A run takes
45 s on 2 CPU cores. Expected on MNIST ← notMNIST: about 96 % without a defense, and a plain attacker at 55 % under MAD,
ε = 0.99, where an informed one is well above 80 %. A killed run goes on where it stopped.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import tyro

from experiments import common, plot
from pp_jax._command import command


@dataclasses.dataclass(frozen=True)
class Grid:
    """The strengths at which each defense is tried; give none to leave a defense out."""

    mad: tuple[float, ...] = (0.5, 0.99, 1.5)
    """MAD: L1 budgets ε. At exactly 1 a saturated posterior ties with its poison: use 0.99."""
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

    def defenses(self) -> Iterator[Any]:
        """Every defense of the grid."""
        from pp_jax import MAD, Entry, RandomNoise, ReverseSigmoid, Rounding, Top1, TopK

        yield from (Entry(MAD, epsilon=epsilon) for epsilon in self.mad)
        yield from (Entry(MAD, epsilon=epsilon, keep_argmax=True) for epsilon in self.mad_argmax)
        yield from (Entry(ReverseSigmoid, beta=beta, gamma=self.gamma) for beta in self.reverse_sigmoid)
        yield from (Entry(RandomNoise, radius=radius) for radius in self.random_noise)
        yield from (Entry(TopK, k=k) for k in self.top_k)
        yield from (Entry(Rounding, decimals=decimals) for decimals in self.rounding)
        yield from [Entry(Top1)] * self.top_1


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Defenses × strengths × attackers × seeds."""

    grid: tyro.conf.OmitArgPrefixes[Grid] = dataclasses.field(default_factory=Grid)
    attackers: tuple[str, ...] = ("quick",)
    """`standard`, `quick`, single members by name, or yours, as in mine.py:MINE."""
    folder: str = "tradeoff"
    """Where below `runs` the records, the figure and the report go."""


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    drawing = plot.Config(config.runs / config.folder)
    with common.errors():
        plot.check(drawing)
        config.evaluate(list(config.grid.defenses()), common.attacker_set(config.attackers), config.folder)
        paths = plot.draw(drawing)
    print(*paths, f"{config.runs / config.folder}/*.json", sep="\n")


if __name__ == "__main__":
    main()
