"""Victims and images, each loaded once for all cells alike."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import train_victim
from attackers import Source
from train_victim import Trained, Victim

SEED_IMAGES = 1000
"""The Jacobian family draws its seeds from the last so many test images; every thief of it is judged on the others."""


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


def resized(pool: Any, image_shape: tuple[int, int, int]) -> Any:
    """The pool with its images scaled to a victim's size, as a thief would: area average or bicubic, by Pillow."""
    import numpy as np
    from PIL import Image

    height, width, _ = image_shape
    smaller = pool.image_shape[0] >= height and pool.image_shape[1] >= width
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    scaled = [np.asarray(Image.fromarray(image.squeeze()).resize((width, height), method)) for image in pool.images]
    return dataclasses.replace(pool, images=np.stack(scaled).reshape(len(pool), height, width, -1))
