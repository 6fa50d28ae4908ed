"""By how much a defense multiplies the attacker's error: the paper's "85×", with confidence intervals.

    python -m experiments.amplification --preset mnist_notmnist       # about 10 minutes on 2 CPU cores

factor = (1 − accuracy under the defense) / (1 − accuracy without), paired by seed; the interval is Student's over at
least three seeds, at 95 %. The paper's 85 is MNIST's Knockoff attacker falling from 99.0 % to 15 %: the factor depends
on how good the undefended attacker is as much as on the defense. Expected on MNIST ← notMNIST: 10.7 ± 1.1 for MAD at
ε = 0.99, 20.0 ± 9.5 at 1.5 (docs/results/amplification.md). Writes a record per run and `amplification.md` into
`runs/amplification`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments import common, presets
from pp_jax._command import command

DEFENSES = (
    "MAD(epsilon=0.5)",
    "MAD(epsilon=0.9)",
    "MAD(epsilon=0.99)",
    "MAD(epsilon=1.5)",
    "MAD(epsilon=0.99, keep_argmax=True)",
    "MAD(epsilon=1.5, keep_argmax=True)",
    "ReverseSigmoid(beta=1.0)",
)


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Defenses × seeds."""

    preset: presets.Name | None = None
    """Where the other options start: see `python -m experiments.presets`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """At least three."""
    defense: tuple[str, ...] = DEFENSES
    """Which: a class of pp_jax.defenses with its parameters, or yours, as in mine.py:Mine."""
    folder: str = "amplification"
    """Where below `runs` the records and the table go."""


def factors(defended: Sequence[float], bare: Sequence[float]) -> list[float]:
    """Ratios of error rates from accuracies in %, paired; an undefended attacker without any error counts as 0.01 %."""
    return [(100 - d) / max(100 - b, 1e-2) for d, b in zip(defended, bare, strict=True)]


def run(config: Config) -> Any:
    """Compute what is missing; the table."""
    from pp_jax.evaluation.attackers import PLAIN
    from pp_jax.results.tables import Table, interval, provenance, spread

    if len(config.seeds) < 3:
        raise ValueError(f"seeds are {config.seeds}: must be at least three for a confidence interval")
    report = config.evaluate(common.parsed(config.defense), (PLAIN,), config.folder)
    bare = report.rows[0].attacks["plain"]
    lines = []
    for row in report.rows:
        middle, half = interval(factors(row.attacks["plain"], bare))
        factor = "1" if row is report.rows[0] else f"{middle:.1f} ± {half:.1f}"
        lines.append([row.name, spread(row.attacks["plain"]), spread(row.defender), factor])
    note = (
        f"Factor: mean and 95 % confidence interval over {len(config.seeds)} seeds; accuracies: mean ± half the range. "
        + provenance(record for row in report.rows for record in row.records)
    )
    headings = ("defense", "attacker %", "defender %", "error ×")
    return Table(f"Error amplification, {report.title}", headings, lines, note)


@command()
def main() -> None:
    """Command line."""
    config = presets.cli(Config, __doc__)
    common.show(lambda: run(config), config.runs / config.folder / "amplification.md")


if __name__ == "__main__":
    main()
