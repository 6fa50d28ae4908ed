"""By how much a defense multiplies the thief's error: the paper's "85×", with confidence intervals.

    python experiments/amplification.py --preset mnist_notmnist       # about 20 minutes on 2 CPU cores

factor = (1 − accuracy under the defense) / (1 − accuracy without), paired by seed; the interval is Student's over at
least three seeds, at 95 %. The paper's 85 is MNIST's Knockoff attacker falling from 99.0 % to 15 %: the factor hangs on
how good the undefended thief is as much as on the defense. Writes a record per cell and `amplification.md` into
`runs/amplification`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import presets
import steal
import tyro
from cells import grid, tables
from cells.machines import Machines
from owners.defenses import Defense

DEFENSES = {
    "MAD, ε = 0.5": Defense("mad", epsilon=0.5),
    "MAD, ε = 0.9": Defense("mad", epsilon=0.9),
    "MAD, ε = 0.99": Defense("mad", epsilon=0.99),
    "MAD, ε = 1.5": Defense("mad", epsilon=1.5),
    "MAD-argmax, ε = 0.99": Defense("mad_argmax", epsilon=0.99),
    "MAD-argmax, ε = 1.5": Defense("mad_argmax", epsilon=1.5),
    "reverse sigmoid, β = 1": Defense("reverse_sigmoid", beta=1.0),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Defenses × seeds."""

    preset: presets.Name = "mnist_font_letters"
    """Victim and pool: see `python experiments/presets.py`."""
    size: tyro.conf.OmitArgPrefixes[presets.Size] = dataclasses.field(default_factory=presets.Size)
    seeds: tuple[int, ...] = (0, 1, 2)
    """At least three."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "amplification"
    """Where below it the cells and the table go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self, defense: Defense) -> list[steal.Config]:
        """One configuration per seed."""
        victim, attack = self.size.victim(self.preset), self.size.attack(self.preset)
        return steal.Config(victim, attack, defense, runs=self.runs, data_dir=self.data_dir).over(self.seeds)


def factors(defended: Sequence[float], bare: Sequence[float]) -> list[float]:
    """Ratios of error rates, paired; an undefended thief without any error counts as one test image's error."""
    return [(1 - d) / max(1 - b, 1e-4) for d, b in zip(defended, bare, strict=True)]


def run(config: Config) -> tables.Table:
    """Compute what is missing; the table."""
    if len(config.seeds) < 3:
        raise ValueError(f"seeds are {config.seeds}: must be at least three for a confidence interval")
    bare = Defense("none")
    cells = [cell for defense in (bare, *DEFENSES.values()) for cell in config.cells(defense)]
    found = grid.run(cells, config.folder, config.machines)

    def accuracies(defense: Defense, measure: str = "attacker_accuracy") -> list[float]:
        return [found[cell].result[measure] for cell in config.cells(defense)]

    rows = [
        ["no defense", tables.percent(accuracies(bare)), tables.percent(accuracies(bare, "defender_accuracy")), "1"]
    ]
    for name, defense in DEFENSES.items():
        mean, half = tables.interval(factors(accuracies(defense), accuracies(bare)))
        texts = (tables.percent(accuracies(defense, m)) for m in ("attacker_accuracy", "defender_accuracy"))
        rows.append([name, *texts, f"{mean:.1f} ± {half:.1f}"])
    note = (
        f"Factor: mean and 95 % confidence interval over {len(config.seeds)} seeds; accuracies: mean ± half the range. "
        + tables.provenance(found.values())
    )
    headings = ("defense", "thief %", "defender %", "error × ")
    return tables.Table(f"Error amplification, {config.preset}", headings, rows, note)


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    grid.main(lambda: run(config), config.runs / config.folder / "amplification.md")


if __name__ == "__main__":
    main()
