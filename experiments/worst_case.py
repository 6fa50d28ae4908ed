"""The main job: what every defense is worth against attackers who know it.

    python -m experiments.worst_case                                       # MNIST ← font_letters, about 40 minutes
    python -m experiments.worst_case --attack.pool notmnist --seeds 0 1 2 --attackers standard
    python -m experiments.worst_case --equal accuracy --at 0.02            # every defense may lose two points
    python -m experiments.worst_case --defense none 'MAD(epsilon=0.5)' mine.py:Mine
    python -m experiments.worst_case --defense none mine.py:ENTRY          # a policy, as in docs/detection.md

Trains a victim (MNIST, LeNet), puts each defense in front of it, steals it with every attacker that applies, and shows
for each defense the worst case, who it was, and what the plain attacker had. Writes a record per run, `worst_case.md`,
`worst_case.png` and a self-contained `report.html` into `runs/worst_case`. Expected on MNIST ← notMNIST, 4 000 queries:
about 86 % without a defense, no published defense below 64 % (docs/results/worst_case.md). Times are for
2 CPU cores. A killed run goes on where it stopped.
"""

import dataclasses

import tyro

from experiments import common
from pp_jax._command import command

DEFENSES = (
    "none",
    "Top1",
    "Rounding(decimals=1)",
    "ReverseSigmoid(beta=1.0, gamma=0.2)",
    "MAD(epsilon=0.99)",
    "MAD(epsilon=0.99, keep_argmax=True)",
    "ModelGuardW(epsilon=1.0)",
    "KeyedSwap",
)


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Defenses × attackers × seeds."""

    defense: tuple[str, ...] = DEFENSES
    """Which: a class of pp_jax.defenses with its parameters, or yours, as in mine.py:Mine;
    an entry of yours, such as a policy, as in mine.py:ENTRY."""
    attackers: tuple[str, ...] = ("quick",)
    """`standard`, `quick`, single members by name, or yours, as in mine.py:MINE."""
    equal: common.Equal | None = None
    """Bring every defense to the same loss of accuracy, or the same mean L1 distance, of `at`."""
    at: float | None = None
    """The amount that is made equal: 0.02 is two points of accuracy."""
    published: bool = False
    """Evaluate each at the setting that its authors report as well."""
    folder: str = "worst_case"
    """Where below `runs` the records, the table and the figure go."""


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    from pp_jax import _files
    from pp_jax.evaluation.report import OUTPUTS

    with common.errors():
        _files.check_replaceable(*(config.runs / config.folder / name for name in OUTPUTS))
        rows = common.parsed(config.defense)
        if config.published:
            given = {row.text() for row in rows}
            reported = [row.published() for row in rows]
            rows += [row for row in reported if row is not None and row.text() not in given]
        attackers = common.attacker_set(config.attackers)
        report = config.evaluate(rows, attackers, config.folder, equal=config.equal, at=config.at)
        paths = report.write(config.runs / config.folder)
    report.table(brief=True).print()
    print(report.headline(), *paths, sep="\n")


if __name__ == "__main__":
    main()
