"""What MAD is made of: oracle, surrogate, layers, distance and ending, one changed at a time.

    python experiments/ablations.py --preset mnist_notmnist           # about 30 minutes on 2 CPU cores

Writes a record per cell and `ablations.md` into `runs/ablations`. "G = I" and the random class are the paper's own
ablations. L2 and KL budgets are chosen so that a saturated posterior moves by about as much in L1: ε = .7 in L2
(.99/√2), and ε = .68 nats in KL (−log(1 − .99/2)).
"""

import dataclasses
from pathlib import Path

import presets
import steal
import tyro
from cells import grid, tables
from cells.machines import Machines
from owners.defenses import Defense
from owners.surrogates import Surrogate

RANDOM = Surrogate()
VARIANTS: dict[str, tuple[Defense, Surrogate]] = {
    "no defense": (Defense("none"), RANDOM),
    "MAD as in the paper": (Defense("mad"), RANDOM),
    "oracle: argmax-preserving": (Defense("mad_argmax"), RANDOM),
    "oracle: least likely class": (Defense("least_likely"), RANDOM),
    "oracle: random class": (Defense("random_class"), RANDOM),
    "objective: unnormalised": (Defense("mad", objective="inner"), RANDOM),
    "G = I": (Defense("mad", gram="identity"), RANDOM),
    "all layers": (Defense("mad", gram="all_layers"), RANDOM),
    "surrogate: trained on 2000 images": (Defense("mad"), Surrogate("partial", epochs=3)),
    "surrogate: trained on the victim's data": (Defense("mad"), Surrogate("trained")),
    "surrogate: distilled from the victim": (Defense("mad"), Surrogate("distilled")),
    "surrogate: another architecture (MLP)": (Defense("mad"), Surrogate(model="mlp")),
    "ending: projection": (Defense("mad", ending="projection"), RANDOM),
    "distance: L2, ε = .7": (Defense("mad", distance="l2", epsilon=0.7), RANDOM),
    "distance: KL, ε = .68": (Defense("mad", distance="kl", epsilon=0.68), RANDOM),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Variants × seeds."""

    preset: presets.Name = "mnist_font_letters"
    """Victim and pool: see `python experiments/presets.py`."""
    size: tyro.conf.OmitArgPrefixes[presets.Size] = dataclasses.field(default_factory=presets.Size)
    seeds: tuple[int, ...] = (0,)
    """Each repeats the attack; the victim stays."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "ablations"
    """Where below it the cells and the table go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self, defense: Defense, surrogate: Surrogate) -> list[steal.Config]:
        """One configuration per seed."""
        victim, attack = self.size.victim(self.preset), self.size.attack(self.preset)
        return steal.Config(victim, attack, defense, surrogate, runs=self.runs, data_dir=self.data_dir).over(self.seeds)


def run(config: Config) -> tables.Table:
    """Compute what is missing; the table."""
    cells = [cell for variant in VARIANTS.values() for cell in config.cells(*variant)]
    found = grid.run(cells, config.folder, config.machines)
    rows = []
    for name, variant in VARIANTS.items():
        own = config.cells(*variant)
        shares = ("attacker_accuracy", "defender_accuracy", "query_kept_argmax")
        rows.append(
            [
                name,
                *(tables.percent(tables.of(own, found, share)) for share in shares),
                tables.spread(tables.of(own, found, "query_l1", "mean"), digits=2),
                tables.spread(tables.of(own, found, "query_angle_degrees", "mean")),
            ]
        )
    headings = ("variant", "thief %", "defender %", "argmax kept %", "mean L1", "angle °")
    note = (
        "MAD as in the paper: oracle best vertex, untrained surrogate, last layer, L1, line search. ε = .99 in L1 but "
        "for the last two rows; the angle is that of the last layer of the surrogate in use; mean ± "
        "half the range over seeds. " + tables.provenance(found.values())
    )
    return tables.Table(f"Ablations of MAD, {config.preset}", headings, rows, note)


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    grid.main(lambda: run(config), config.runs / config.folder / "ablations.md")


if __name__ == "__main__":
    main()
