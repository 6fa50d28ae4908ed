"""How attackers get around a defense: other labels, optimisers, architectures, a warm start, and white-box evaluation.

    python experiments/subversion.py --preset mnist_notmnist          # about 40 minutes on 2 CPU cores

Each row is an attacker, each column a defense. The defender's surrogate is an untrained LeNet in every row: a thief of
another architecture is one that the defender did not foresee. The last three rows train online, one pass of batches of
64 queries, while the defense sees the thief's own weights, those of a network trained alongside, or its own untrained
surrogate. Writes a record per cell and `subversion.md` into `runs/subversion`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import presets
import steal
import tyro
from cells import grid, tables
from cells.machines import Machines
from owners.defenses import Defense
from owners.surrogates import Surrogate

DEFENSES = {
    "none": Defense("none"),
    "MAD .99": Defense("mad", epsilon=0.99),
    "MAD-argmax .99": Defense("mad_argmax", epsilon=0.99),
    "reverse sigmoid 1": Defense("reverse_sigmoid", beta=1.0),
}


def attackers_of(other: str) -> dict[str, dict[str, Any]]:
    """Changes of the preset's attack, by name; `other` is the data set of the warm start."""
    adaptive = {"learning_rate": 0.001}
    return {
        "soft labels, SGD": {},
        "argmax labels": {"labels": "top1"},
        "SGD without momentum": {"momentum": 0.0},
        "Adam": {"optimizer": "adam", **adaptive},
        "RMSprop": {"optimizer": "rmsprop", **adaptive},
        "Adagrad": {"optimizer": "adagrad", "learning_rate": 0.01},
        "MLP": {"model": "mlp"},
        f"warm start from {other}": {"warm_start": other},
        "adaptive queries": {"name": "knockoff_adaptive"},
        "online, surrogate untrained": {"name": "online", "sees": "fixed"},
        "online, grey box (proxy)": {"name": "online", "sees": "proxy"},
        "online, white box": {"name": "online", "sees": "thief"},
    }


@dataclasses.dataclass(frozen=True)
class Config:
    """Attackers × defenses × seeds."""

    preset: presets.Name = "mnist_font_letters"
    """Victim and pool: see `python experiments/presets.py`."""
    size: tyro.conf.OmitArgPrefixes[presets.Size] = dataclasses.field(default_factory=presets.Size)
    other: str = "fashion_mnist"
    """The labelled data set of the warm start."""
    seeds: tuple[int, ...] = (0,)
    """Each repeats the attack; the victim stays."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "subversion"
    """Where below it the cells and the table go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self, change: dict[str, Any], defense: Defense) -> list[steal.Config]:
        """One configuration per seed."""
        usual, attack = self.size.attack(self.preset), self.size.attack(self.preset, **change)
        surrogate = Surrogate(model=usual.model if attack.model != usual.model else None)
        victim = self.size.victim(self.preset)
        return steal.Config(victim, attack, defense, surrogate, runs=self.runs, data_dir=self.data_dir).over(self.seeds)


def possible(change: dict[str, Any], defense: Defense) -> bool:
    """Whether a cell means anything: only MAD has a surrogate that could be the thief."""
    return change.get("sees", "fixed") == "fixed" or defense.name.startswith("mad")


def run(config: Config) -> tables.Table:
    """Compute what is missing; the table."""
    changes = attackers_of(config.other)
    pairs = [(change, defense) for change in changes.values() for defense in DEFENSES.values()]
    cells = [cell for pair in pairs if possible(*pair) for cell in config.cells(*pair)]
    found = grid.run(cells, config.folder, config.machines)
    rows = []
    for name, change in changes.items():
        texts = [
            tables.percent(tables.of(config.cells(change, defense), found, "attacker_accuracy"))
            if possible(change, defense)
            else "—"
            for defense in DEFENSES.values()
        ]
        rows.append([name, *texts])
    note = "The thief's test accuracy in %; mean ± half the range over seeds. " + tables.provenance(found.values())
    return tables.Table(f"Subversion, {config.preset}", ("attacker", *DEFENSES), rows, note)


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    grid.main(lambda: run(config), config.runs / config.folder / "subversion.md")


if __name__ == "__main__":
    main()
