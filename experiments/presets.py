"""The paper's victims and query pools by name, and what each needs.

    python experiments/presets.py          # which can run here, and the command that cures what is missing

The six presets of the paper carry its budget of 50 000 queries and are meant for an accelerator; those after them are
the same attacks at a size that 2 CPU cores take. The paper tells little of how its victims were trained: epochs, decay
and weight decay of the larger ones are customary values. Victims for CUB-200 and Caltech-256 start from weights that
`python -m pp_jax.models import-torch` converted, given by `--victim-weights`.
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, Literal

import tyro

from thieves.attackers import Attack
from train_victim import Model, Victim

Name = Literal[
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "cub200",
    "caltech256",
    "mnist_font_letters",
    "mnist_notmnist",
    "mnist_fashion_mnist",
    "fashion_mnist_mnist",
    "fashion_mnist_notmnist",
    "cifar10_cifar100",
    "cifar10_tiny_imagenet",
    "cifar100_cifar10",
    "cifar100_tiny_imagenet",
]


@dataclasses.dataclass(frozen=True)
class Preset:
    """A victim and how it is attacked.

    Attributes:
        victim: how it is trained.
        attack: pool, budget and training of the thief.
        published: accuracy in % of the victim and of the thieves, undefended, where the paper has them.
        prepare: options of `python -m pp_jax.data prepare`, by data set.
    """

    victim: Victim
    attack: Attack
    published: dict[str, float] = dataclasses.field(default_factory=dict)
    prepare: dict[str, str] = dataclasses.field(default_factory=dict)


def _published(victim: float, jbda: float, jb_self: float, jb_topk: float, knockoff: float) -> dict[str, float]:
    """A row of the paper's undefended table (B = 50 000)."""
    return {"victim": victim, "jbda": jbda, "jb_self": jb_self, "jb_topk": jb_topk, "knockoff": knockoff}


def _lenet(dataset: str, pool: str, published: dict[str, float]) -> Preset:
    """LeNet at the paper's size: 30 epochs, 50 000 queries."""
    return Preset(Victim(dataset, epochs=30, decay_every=20), Attack(pool=pool, budget=50_000, epochs=30), published)


def _small(dataset: str, pool: str) -> Preset:
    """LeNet at a size for 2 CPU cores: 10 000 queries, 12 epochs; a round of the Jacobian family moves 1000 images."""
    epochs, decay_every = (4, 3) if dataset == "mnist" else (8, 6)
    victim = Victim(dataset, epochs=epochs, decay_every=decay_every)
    return Preset(victim, Attack(pool=pool, reservoir=1000, rounds_epochs=10))


def _vgg(dataset: str, pool: str, published: dict[str, float], *, split: str = "train", resize: bool = False) -> Preset:
    """VGG16-BN on 32×32 images: 100 epochs, flips and crops, 50 000 queries (fewer where the pool is smaller)."""
    options: dict[str, Any] = {"model": "vgg16_bn", "weight_decay": 5e-4, "augmentation": "cifar"}
    victim = Victim(dataset, epochs=100, learning_rate=0.1, momentum=0.9, decay_every=40, **options)
    attack = Attack(
        pool=pool, split=split, resize=resize, budget=50_000 if split == "train" else 10_000, epochs=100, **options
    )
    return Preset(victim, attack, published)


def _large(dataset: str, model: Model, published: dict[str, float]) -> Preset:
    """VGG16-BN on 224×224 photographs, queried with ImageNet's."""
    options: dict[str, Any] = {"model": model, "learning_rate": 0.01, "weight_decay": 5e-4, "augmentation": "imagenet"}
    victim = Victim(dataset, epochs=60, momentum=0.9, decay_every=25, **options)
    attack = Attack(pool="imagenet2012", budget=50_000, epochs=100, **options)
    return Preset(victim, attack, published, dict.fromkeys((dataset, "imagenet2012"), "--from FOLDER --size 224"))


def presets() -> dict[str, Preset]:
    """All of them, by name."""
    cifar10 = _published(92.0, 28.6, 20.7, 73.8, 78.7)
    cifar100 = _published(72.2, 5.3, 2.9, 39.2, 51.9)
    tiny: dict[str, Any] = {"split": "validation", "resize": True}
    return {
        "mnist": _lenet("mnist", "emnist/letters", _published(99.4, 89.2, 89.4, 87.3, 99.0)),
        "fashion_mnist": _lenet("fashion_mnist", "emnist/balanced", _published(92.0, 38.7, 45.8, 68.7, 69.2)),
        "cifar10": _vgg("cifar10", "cifar100", cifar10),
        "cifar100": _vgg("cifar100", "cifar10", cifar100),
        "cub200": _large("caltech_birds2011", "vgg16_bn", _published(80.4, 6.8, 3.9, 21.5, 65.1)),
        "caltech256": _large("caltech256", "vgg16_bn", _published(80.0, 12.5, 16.0, 29.5, 74.6)),
        "mnist_font_letters": _small("mnist", "font_letters"),
        "mnist_notmnist": _small("mnist", "notmnist"),
        "mnist_fashion_mnist": _small("mnist", "fashion_mnist"),
        "fashion_mnist_mnist": _small("fashion_mnist", "mnist"),
        "fashion_mnist_notmnist": _small("fashion_mnist", "notmnist"),
        "cifar10_cifar100": _vgg("cifar10", "cifar100", cifar10),
        "cifar10_tiny_imagenet": _vgg("cifar10", "tiny_imagenet", {}, **tiny),
        "cifar100_cifar10": _vgg("cifar100", "cifar10", cifar100),
        "cifar100_tiny_imagenet": _vgg("cifar100", "tiny_imagenet", {}, **tiny),
    }


@dataclasses.dataclass(frozen=True)
class Size:
    """A preset's own size, or another."""

    budget: int | None = None
    """Queries; the preset's by default."""
    epochs: int | None = None
    """Of the thief; the preset's by default."""
    victim_epochs: int | None = None
    """Of the victim; the preset's by default."""
    victim_weights: Path | None = None
    """Weights of the victim, converted by `python -m pp_jax.models import-torch`, instead of training."""

    def victim(self, preset: Name) -> Victim:
        """How the victim is made."""
        victim = presets()[preset].victim
        return dataclasses.replace(
            victim,
            epochs=victim.epochs if self.victim_epochs is None else self.victim_epochs,
            weights=self.victim_weights,
        )

    def attack(self, preset: Name, **changes: Any) -> Attack:
        """How it is attacked, with changes to the preset's attack."""
        attack = presets()[preset].attack
        size = {"budget": self.budget, "epochs": self.epochs}
        size = {name: value for name, value in size.items() if value is not None}
        if self.epochs is not None:
            changes = {"rounds_epochs": min(attack.rounds_epochs, self.epochs), **changes}
        return dataclasses.replace(attack, **{**size, **changes})


@dataclasses.dataclass(frozen=True)
class Config:
    """Say what every preset needs and where it is looked for."""

    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""


def missing(preset: Preset, data_dir: Path | None) -> list[str]:
    """The commands that prepare what a preset lacks."""
    from pp_jax import data

    commands = []
    for name, split in ((preset.victim.dataset, "test"), (preset.attack.pool, preset.attack.split)):
        try:
            data.load(name, split, data_dir=data_dir)
        except data.DatasetMissing:
            options = preset.prepare.get(name, "")
            commands.append(f"python -m pp_jax.data prepare {name} {options}".strip())
    return commands


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    import rich
    from rich import box
    from rich.table import Table

    where = config.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    table = Table(box=box.SIMPLE_HEAD, title=f"Presets; data are looked for in {where}")
    for heading in ("preset", "victim ← pool", "model", "queries", "ready", "to be prepared first"):
        table.add_column(heading)
    try:
        for name, preset in presets().items():
            lacking = missing(preset, config.data_dir)
            sets = f"{preset.victim.dataset} ← {preset.attack.pool}"
            ready = "no" if lacking else "yes"
            table.add_row(name, sets, preset.victim.model, str(preset.attack.budget), ready, "\n".join(lacking))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    rich.print(table)


if __name__ == "__main__":
    main()
