"""The networks that a defense keeps beside the victim: trained once, for all cells alike.

    python experiments/train_defense.py misinformation --victim.outliers omniglot_28
    python experiments/train_defense.py edm

Adaptive misinformation has a network that was taught to be wrong, EDM an ensemble that agrees on the victim's data
alone. The other scripts train what they need; this one does it beforehand, and says what came of it. Writes parameters
and a record to `runs/networks`. Two epochs for LeNet on MNIST take half a minute (misinformation) and, by its time per
step, over 10 minutes (EDM) on 2 busy CPU cores.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import tyro

from owners import networks, outliers
from owners.networks import Needs
from train_victim import Victim


@dataclasses.dataclass(frozen=True)
class Config:
    """Train what a defense needs, and keep it."""

    kind: tyro.conf.Positional[Literal["misinformation", "edm"]]
    """For which defense."""
    victim: Victim = dataclasses.field(default_factory=Victim)
    epochs: int = 2
    """Passes over the victim's training images."""
    outliers: str = "omniglot_28"
    """EDM: what its models are to disagree on."""
    members: int = 5
    """EDM: how many models."""
    runs: Path = Path("runs")
    """Folder of all results."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""

    def needs(self) -> Needs:
        """As a defense has them."""
        return Needs(self.kind, self.epochs, *((self.outliers, self.members) if self.kind == "edm" else ()))


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    try:
        needs = config.needs()
        outliers.check(needs.outliers, victims=config.victim.dataset)
        networks.beside(needs, config.victim, config.runs, config.data_dir)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(config.runs / networks.FOLDER)


if __name__ == "__main__":
    main()
