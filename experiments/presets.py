"""The paper's victims and query pools by name, and what each needs.

    python -m experiments.presets          # which can run here, and the command that cures what is missing

takes a second or two. The six presets of the paper carry its budget of 50 000 queries and are meant for an accelerator;
those after them are the same attacks at a size that 2 CPU cores take. The paper tells little of how its victims were
trained: epochs, decay and weight decay of the larger ones are customary values. Victims for CUB-200 and Caltech-256
start from weights that `python -m pp_jax.models import-torch` converted, given by `--victim.weights`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any, Literal, TypeVar

import tyro

from experiments import common
from experiments.common import AttackOptions
from experiments.victims import VictimOptions
from pp_jax._command import command

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
Config = TypeVar("Config", bound=common.Options)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A victim and how it is attacked.

    Attributes:
        victim: how it is trained.
        attack: pool, budget and training of the attackers.
        published: accuracy in % of the victim and of the attackers, undefended, where the paper has them.
        prepare: options of `python -m pp_jax.data prepare`, by data set.
    """

    victim: VictimOptions
    attack: AttackOptions
    published: dict[str, float] = dataclasses.field(default_factory=dict)
    prepare: dict[str, str] = dataclasses.field(default_factory=dict)

    def missing(self, data_dir: Path | None) -> list[str]:
        """The commands that prepare what it lacks."""
        from pp_jax import data

        commands = []
        for name, split in ((self.victim.dataset, "test"), (self.attack.pool, self.attack.split)):
            try:
                data.load(name, split, data_dir=data_dir)
            except data.DatasetMissing:
                commands.append(f"python -m pp_jax.data prepare {name} {self.prepare.get(name, '')}".strip())
        return commands


def _published(victim: float, jbda: float, jb_self: float, jb_topk: float, knockoff: float) -> dict[str, float]:
    """A row of the paper's undefended table (B = 50 000)."""
    return {"victim": victim, "jbda": jbda, "jb_self": jb_self, "jb_topk": jb_topk, "knockoff": knockoff}


def _lenet(dataset: str, pool: str, published: dict[str, float]) -> Preset:
    """LeNet at the paper's size: 30 epochs, 50 000 queries."""
    attack = AttackOptions(pool=pool, budget=50_000, epochs=30)
    return Preset(VictimOptions(dataset, epochs=30, decay_every=20), attack, published)


def _small(dataset: str, pool: str) -> Preset:
    """LeNet at a size for 2 CPU cores: 10 000 queries, 12 epochs."""
    epochs, decay_every = (4, 3) if dataset == "mnist" else (8, 6)
    return Preset(VictimOptions(dataset, epochs=epochs, decay_every=decay_every), AttackOptions(pool=pool))


def _vgg(dataset: str, pool: str, published: dict[str, float], *, split: str = "train", resize: bool = False) -> Preset:
    """VGG16-BN on 32×32 images: 100 epochs, flips and crops, 50 000 queries (fewer where the pool is smaller)."""
    both: dict[str, Any] = {"model": "vgg16_bn", "epochs": 100, "weight_decay": 5e-4, "augmentation": "cifar"}
    victim = VictimOptions(dataset, learning_rate=0.1, momentum=0.9, decay_every=40, **both)
    budget = 50_000 if split == "train" else 10_000
    return Preset(victim, AttackOptions(pool=pool, split=split, resize=resize, budget=budget, **both), published)


def _large(dataset: str, published: dict[str, float]) -> Preset:
    """VGG16-BN on 224×224 photographs, queried with ImageNet's."""
    both: dict[str, Any] = {
        "model": "vgg16_bn",
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "augmentation": "imagenet",
    }
    victim = VictimOptions(dataset, epochs=60, momentum=0.9, decay_every=25, **both)
    attack = AttackOptions(pool="imagenet2012", budget=50_000, epochs=100, **both)
    return Preset(victim, attack, published, dict.fromkeys((dataset, "imagenet2012"), "--from FOLDER --size 224"))


def presets() -> dict[Name, Preset]:
    """All of them, by name."""
    cifar10 = _published(92.0, 28.6, 20.7, 73.8, 78.7)
    cifar100 = _published(72.2, 5.3, 2.9, 39.2, 51.9)
    tiny: dict[str, Any] = {"split": "validation", "resize": True}
    return {
        "mnist": _lenet("mnist", "emnist/letters", _published(99.4, 89.2, 89.4, 87.3, 99.0)),
        "fashion_mnist": _lenet("fashion_mnist", "emnist/balanced", _published(92.0, 38.7, 45.8, 68.7, 69.2)),
        "cifar10": _vgg("cifar10", "cifar100", cifar10),
        "cifar100": _vgg("cifar100", "cifar10", cifar100),
        "cub200": _large("caltech_birds2011", _published(80.4, 6.8, 3.9, 21.5, 65.1)),
        "caltech256": _large("caltech256", _published(80.0, 12.5, 16.0, 29.5, 74.6)),
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


def options(name: Name) -> common.Options:
    """Victim and attack of a preset; everything else as usual."""
    preset = presets()[name]
    return common.Options(preset.victim, preset.attack)


def cli(config: type[Config], description: str | None) -> Config:
    """The command line of a script; `--preset NAME` says where its other options start.

    Args:
        config: a dataclass with a field `preset: Name | None = None`.
        description: of the help page.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    name = first.parse_known_args()[0].preset
    if name not in presets():  # none, or one that tyro refuses with the names that there are
        return tyro.cli(config, description=description)
    start = options(name)
    return tyro.cli(config, description=description, default=config(start.victim, start.attack))


@dataclasses.dataclass(frozen=True)
class Listing:
    """Say what every preset needs and where it is looked for."""

    data_dir: common.UserPath | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""

    def rows(self) -> list[list[str]]:
        """One a preset: name, victim ← pool, model, queries, whether it is ready, and what is to be prepared."""
        rows = []
        for name, preset in presets().items():
            victim, attack, lacking = preset.victim, preset.attack, preset.missing(self.data_dir)
            sets, ready = f"{victim.dataset} ← {attack.pool}", "no" if lacking else "yes"
            rows.append([name, sets, victim.model, str(attack.budget), ready, "\n".join(lacking)])
        return rows


@command()
def main() -> None:
    """Command line."""
    listing = tyro.cli(Listing, description=__doc__)
    import rich
    from rich import box
    from rich.table import Table

    where = listing.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    table = Table(box=box.SIMPLE_HEAD, title=f"Presets; data are looked for in {where}")
    for heading in ("preset", "victim ← pool", "model", "queries", "ready", "to be prepared first"):
        table.add_column(heading, overflow="fold")
    with common.errors():
        for row in listing.rows():
            table.add_row(*row)
    rich.print(table)


if __name__ == "__main__":
    main()
