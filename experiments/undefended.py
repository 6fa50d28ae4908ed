"""The paper's undefended table: victims × attacks, published beside obtained.

    python experiments/undefended.py --presets mnist_notmnist --seeds 0 1 2       # about 25 minutes on 2 CPU cores
    python experiments/undefended.py --presets mnist fashion_mnist cifar10        # the paper's size: an accelerator

Writes a record per cell and `undefended.md` into `runs/undefended`. A killed run resumes where it stopped. A preset
whose data are not prepared is reported and left as "not run".
"""

import dataclasses
import sys
from pathlib import Path

import presets
import steal
import tyro
from cells import grid, tables
from cells.machines import Machines
from owners.defenses import Defense
from presets import Name, Size
from thieves import attackers

ATTACKS: tuple[attackers.Name, ...] = ("knockoff", "knockoff_adaptive", "jbda", "jb_self", "jb_topk")
HEADINGS = {
    "knockoff": "Knockoff",
    "knockoff_adaptive": "Knockoff, adaptive",
    "jbda": "JBDA",
    "jb_self": "JB-self",
    "jb_topk": "JB-top3",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Victims × attacks × seeds, without a defense."""

    presets: tuple[Name, ...] = ("mnist_font_letters",)
    """Which victims and pools: see `python experiments/presets.py`."""
    attacks: tuple[attackers.Name, ...] = ATTACKS
    """Which attacks."""
    size: tyro.conf.OmitArgPrefixes[Size] = dataclasses.field(default_factory=Size)
    seeds: tuple[int, ...] = (0,)
    """Each repeats the attack; the victim stays."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "undefended"
    """Where below it the cells and the table go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self, preset: Name, attack: attackers.Name) -> list[steal.Config]:
        """One configuration per seed."""
        victim, thief = self.size.victim(preset), self.size.attack(preset, name=attack)
        return steal.Config(victim, thief, Defense("none"), runs=self.runs, data_dir=self.data_dir).over(self.seeds)


def run(config: Config) -> tables.Table:
    """Compute what is missing and can be computed; the table."""
    known = presets.presets()
    ready = []
    for name in config.presets:
        if lacking := presets.missing(known[name], config.data_dir):
            print(f"preset {name} is not run: first {' and '.join(lacking)}", file=sys.stderr)
        else:
            ready.append(name)
    cells = [cell for name in ready for attack in config.attacks for cell in config.cells(name, attack)]
    found = grid.run(cells, config.folder, config.machines)
    rows = [_row(config, name, found if name in ready else {}) for name in config.presets]
    note = (
        "Test accuracy in %, obtained (published, B = 50 000); mean ± half the range over seeds. "
        + tables.provenance(found.values())
    )
    headings = ("preset", "queries", "victim", *(HEADINGS.get(name, name) for name in config.attacks))
    return tables.Table("Undefended victims", headings, rows, note)


def _row(config: Config, name: Name, found: dict[steal.Config, object]) -> list[str]:
    """One preset: each number with the published one beside it."""
    published = presets.presets()[name].published

    def text(column: str, cells: list[steal.Config], measure: str) -> str:
        beside = f" ({published[column]:.1f})" if column in published else ""
        return tables.percent(tables.of(cells, found, measure)) + beside

    first = config.cells(name, config.attacks[0])
    thieves = [text(attack, config.cells(name, attack), "attacker_accuracy") for attack in config.attacks]
    return [name, str(first[0].attack.budget), text("victim", first[:1], "victim_accuracy"), *thieves]


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    grid.main(lambda: run(config), config.runs / config.folder / "undefended.md")


if __name__ == "__main__":
    main()
