"""Victims and images, each loaded once for all cells alike."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import train_victim
from cells.resizing import resized
from owners import networks, outliers
from thieves.attackers import Source
from train_victim import Trained, Victim

if TYPE_CHECKING:
    from steal import Config

SEED_IMAGES = 1000
"""The Jacobian family draws its seeds from the last so many test images; every thief of it is judged on the others."""


def cell(config: Config) -> tuple[Trained, Any, Any]:
    """The victim, the thief's pool and the test images, checked against one another before long work starts."""
    pool, test = checked(config)
    return victim(config.victim, config.runs, config.data_dir), pool, test


def checked(config: Config) -> tuple[Any, Any]:
    """The thief's pool and the test images, once every image set that a cell needs is there and fits the others.

    Raises:
        ValueError: for a set that is not prepared or has other images, and for a budget beyond the pool.
    """
    attack, needs = config.attack, config.defense.needs()
    pool, test = images(config.victim.dataset, attack.source(), config.data_dir)
    most = float("inf") if attack.source() is None else len(pool)
    if not 1 <= attack.budget <= most:
        limit = "" if attack.source() is None else f" and at most {most}, the images of {attack.pool}"
        raise ValueError(f"budget is {attack.budget}: must be at least 1{limit}")
    for dataset in (config.victim.outliers, needs.outliers if needs else None):
        if dataset is not None:
            outliers.load(dataset, test.image_shape, config.data_dir)
    return pool, test


def prepare(config: Config) -> None:
    """Do beforehand, with progress bars of their own, what many cells share: victims, warm starts, networks."""
    cell(config)
    networks.beside(config.defense.needs(), config.victim, config.runs, config.data_dir)
    if config.attack.warm_start and not config.attack.warm_start.endswith(".safetensors"):
        pretrained(config)


def pretrained(config: Config) -> Trained:
    """The thief's architecture trained on the labels of the data set it starts warm from."""
    return victim(Victim(config.attack.warm_start or "", config.attack.model), config.runs, config.data_dir)


@functools.lru_cache(maxsize=2)
def victim(chosen: Victim, runs: Path, data_dir: Path | None) -> Trained:
    """Train or load once for all cells alike."""
    return train_victim.run(train_victim.Config(chosen, runs, data_dir))


@functools.lru_cache(maxsize=2)
def images(dataset: str, source: Source | None, data_dir: Path | None) -> tuple[Any, Any]:
    """The thief's pool and the test images."""
    from pp_jax import data

    test = data.load(dataset, "test", data_dir=data_dir)
    if source is None:
        held = min(SEED_IMAGES, len(test) // 2)
        return test[len(test) - held :], test[: len(test) - held]
    pool = data.load(source.pool, source.split, data_dir=data_dir)
    pool = resized(pool, test.image_shape) if source.resize else pool
    if pool.image_shape != test.image_shape:
        raise ValueError(
            f"pool {source.pool} has images {pool.image_shape}: must be {test.image_shape} as those of {dataset} "
            "(--attack.resize scales them)"
        )
    return pool, test
