"""Train the model that will be stolen.

    python -m experiments.train_victim                      # LeNet on MNIST, 4 epochs

takes about 90 seconds on 2 CPU cores and reaches 99.3 % on MNIST's test images. Writes the parameters
(`runs/victims/<hash>.safetensors`) and a record beside them; killed, it goes on after the last whole epoch.
"""

import dataclasses
from pathlib import Path

import tyro

from experiments import common, victims
from experiments.victims import VictimOptions
from pp_jax._command import command


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a victim and keep it."""

    victim: tyro.conf.OmitArgPrefixes[VictimOptions] = dataclasses.field(default_factory=VictimOptions)
    runs: common.UserPath = Path("runs")
    """Folder of all results."""
    data_dir: common.UserPath | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    from pp_jax import records

    with common.errors():
        victims.victim(config.victim, config.runs, config.data_dir)
        name = records.key({"victim": config.victim.settings()})
        accuracy = victims.accuracy(config.victim, config.runs)
    print(f"test accuracy {100 * accuracy:.2f} %   {config.runs / 'victims' / name}.json")


if __name__ == "__main__":
    main()
