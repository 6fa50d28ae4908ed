"""DP-SGD as a defense: victims trained with per-example clipping and noise, and stolen.

    python experiments/private.py --preset mnist_notmnist              # about 60 minutes on 2 CPU cores

A private victim protects its training data; the paper asks whether that also protects the model. Per-example gradients
cost about ten times an ordinary step on a CPU, so the victims see `--train-size` images for 4 epochs (or
`--victim-epochs`), the one without noise among them. Writes a record per cell and `private.md` into `runs/private`.
"""

import dataclasses
from pathlib import Path

import presets
import steal
import tyro
from cells import grid, tables
from cells.machines import Machines
from owners.defenses import Defense
from train_victim import Victim


@dataclasses.dataclass(frozen=True)
class Config:
    """Noise multipliers × seeds."""

    preset: presets.Name = "mnist_font_letters"
    """Victim and pool: see `python experiments/presets.py`."""
    size: tyro.conf.OmitArgPrefixes[presets.Size] = dataclasses.field(default_factory=presets.Size)
    noise: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """Noise multipliers σ."""
    clip: float = 1.0
    """Largest L2 norm of one image's gradient."""
    train_size: int = 20_000
    """Training images of the victims."""
    batch_size: int = 256
    """Of the victims: noise is averaged over it."""
    learning_rate: float = 0.25
    """Of the victims."""
    seeds: tuple[int, ...] = (0,)
    """Each repeats the attack; the victims stay."""
    runs: Path = Path("runs")
    """Folder of all results."""
    folder: str = "private"
    """Where below it the cells and the table go."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[Machines] = dataclasses.field(default_factory=Machines)

    def cells(self, noise: float | None) -> list[steal.Config]:
        """One configuration per seed; no noise is an ordinary victim."""
        victim: Victim = dataclasses.replace(
            self.size.victim(self.preset),
            train_size=self.train_size,
            epochs=self.size.victim_epochs or 4,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            noise_multiplier=noise,
            clip=self.clip,
        )
        attack = self.size.attack(self.preset)
        return steal.Config(victim, attack, Defense("none"), runs=self.runs, data_dir=self.data_dir).over(self.seeds)


def run(config: Config) -> tables.Table:
    """Compute what is missing; the table."""
    levels: tuple[float | None, ...] = (None, *config.noise)
    cells = [cell for noise in levels for cell in config.cells(noise)]
    found = grid.run(cells, config.folder, config.machines)
    rows = []
    for noise in levels:
        own = config.cells(noise)
        texts = (tables.percent(tables.of(own, found, name)) for name in ("victim_accuracy", "attacker_accuracy"))
        rows.append(["no" if noise is None else f"σ = {noise:g}", epsilon(config, own[0]), *texts])
    note = (
        f"ε of (ε, 1e-5)-differential privacy, clipping at {config.clip:g}; {config.train_size} training images; "
        "mean ± half the range over seeds. " + tables.provenance(found.values())
    )
    return tables.Table(f"DP-SGD victims, {config.preset}", ("noise", "ε", "victim %", "thief %"), rows, note)


def epsilon(config: Config, cell: steal.Config) -> str:
    """ε of the victim behind a cell, from its record."""
    from pp_jax import records

    record = records.find(config.runs / "victims", {"victim": cell.victim.settings()})
    value = record.result.get("dp_epsilon") if record else None
    return "∞" if value is None else f"{value:.2f}"


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    grid.main(lambda: run(config), config.runs / config.folder / "private.md")


if __name__ == "__main__":
    main()
