"""The attacker's accuracy against its query budget, with and without defenses.

    python -m experiments.budgets --preset mnist_notmnist --seeds 0 1 2        # about two hours on 2 CPU cores

At each budget fresh attackers are trained on the first so many of the same queries. Writes a record per run, and
`budgets.md` and `budgets.png` into `runs/budgets`: the worst case of each defense beside the plain attacker. With
`--held-out 0.1` a plain attacker that chooses its epoch on a tenth of the responses is tried as well. Expected for a
plain attacker of MNIST ← notMNIST with 10 000 queries: 96 % without a defense, 55 % under MAD, ε = 0.99.
"""

import dataclasses
from pathlib import Path
from typing import Any

from experiments import common, presets
from pp_jax._command import command

DEFENSES = ("none", "MAD(epsilon=0.99)", "MAD(epsilon=0.99, keep_argmax=True)")


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Defenses × budgets × attackers × seeds."""

    preset: presets.Name | None = None
    """Victim and pool to start from: see `python -m experiments.presets`."""
    defense: tuple[str, ...] = DEFENSES
    """Which: a class of pp_jax.defenses with its parameters, or yours, as in mine.py:Mine."""
    attackers: tuple[str, ...] = ("quick",)
    """`standard`, `quick`, single members by name, or yours, as in mine.py:MINE."""
    budgets: tuple[int, ...] = (500, 1000, 2000, 5000, 10_000)
    """Queries; `--attack.budget` plays no part here."""
    held_out: float = 0.0
    """Also try a plain attacker that chooses its best epoch on this share of the responses."""
    folder: str = "budgets"
    """Where below `runs` the records, the table and the figure go."""


def run(config: Config) -> tuple[Any, list[Path]]:
    """Compute what is missing; the table, and the paths of what was written."""
    from pp_jax import _files, plots
    from pp_jax.evaluation import Attacker, AttackerSet, Learner
    from pp_jax.results.tables import Table, provenance, spread

    if not config.budgets:
        raise ValueError("budgets is empty: must hold at least one")
    folder = config.runs / config.folder
    _files.check_replaceable(folder / "budgets.md", folder / "budgets.png")
    rows, attackers = common.parsed(config.defense), common.attacker_set(config.attackers)
    if config.held_out:
        best = Attacker("plain, best epoch", learner=Learner(held_out=config.held_out))
        attackers = AttackerSet(f"{attackers.name} and {best.name}", attackers.version, (*attackers, best))
    reports = {budget: _at(config, budget).evaluate(rows, attackers, config.folder) for budget in config.budgets}
    series: dict[str, list[tuple[float, Any]]] = {}
    for budget, report in reports.items():
        for row in report.rows:
            series.setdefault(f"{row.name}, worst case", []).append((budget, report.worst(row)[1]))
            for name in ("plain", "plain, best epoch"):
                if name in row.attacks:
                    series.setdefault(f"{row.name}, {name}", []).append((budget, row.attacks[name]))
    title = f"{config.victim.dataset} ← {config.attack.pool}"
    figure = plots.curves(
        series,
        x_label="query budget",
        y_label="attacker's test accuracy (%)  —  lower is better",
        title=title,
        logx=True,
    )
    first = reports[config.budgets[0]]
    note = (
        f"Test accuracy of the stolen model in %; mean ± half the range over seeds. Attackers: {first.attacker_set}. "
    )
    note += provenance(record for report in reports.values() for row in report.rows for record in row.records)
    headings = ("defense, attacker", *(f"{budget} queries" for budget in config.budgets))
    texts = [[name, *(spread(values) for _, values in points)] for name, points in series.items()]
    table = Table(f"Accuracy against budget, {title}", headings, texts, note)
    return table, [table.write(folder / "budgets.md"), plots.save(figure, folder / "budgets.png")]


def _at(config: Config, budget: int) -> Config:
    return dataclasses.replace(config, attack=dataclasses.replace(config.attack, budget=budget))


@command()
def main() -> None:
    """Command line."""
    config = presets.cli(Config, __doc__)
    with common.errors():
        table, paths = run(config)
    table.print()
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
