"""Thieves who learn from images without answers as well: S4L and MixMatch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import train_victim
from thieves.attackers import SEMI, Attack

if TYPE_CHECKING:
    from steal import Config
    from thieves.theft import Progress, Scene


def check_left(attack: Attack, pool: Any) -> None:
    """Refuse a thief who learns from images without answers, but asks about all."""
    if attack.labels in SEMI and attack.budget >= len(pool):
        raise ValueError(
            f"budget is {attack.budget}: must be below {len(pool)}, the images of {attack.pool}, "
            f"as some are left unasked where labels is {attack.labels}"
        )


def unasked(key: Any, pool: Any, asked: Any, *, most: int) -> Any:
    """Images of the pool that were not asked about, nor are copies of one that was: at random, no more than `most`."""
    import jax
    import numpy as np

    known = {image.tobytes() for image in asked}
    left = np.flatnonzero([image.tobytes() not in known for image in pool])
    if len(left) == 0:
        raise ValueError("no image of the pool is left that was not asked about: the budget must be smaller")
    return pool[np.sort(np.asarray(jax.random.permutation(key, left))[:most])]


def fit(
    config: Config, at: Scene, images: Any, targets: Any, partial: Path, every_s: float, progress: Progress
) -> tuple[Any, Any]:
    """Train an attacker on images with targets and on others of the pool; its network and parameters.

    Killed, it goes on from what `partial` keeps every so many seconds.
    """
    import jax

    from pp_jax import training

    attack = config.attack
    network = at.thief
    effort = attack.effort
    loss: training.Loss = training.MixMatch(
        effort.mixmatch_weight, alpha=effort.mixmatch_alpha, augment=changes(at.pool.image_shape)
    )
    if attack.labels == "s4l":
        network = train_victim.network_for(attack.model, targets.shape[1] + 4, at.pool.image_shape)
        loss = training.Rotations(effort.s4l_weight)
    key = jax.random.fold_in(at.attack_key, 3)
    # As many as are drawn beside the queries: more would not be seen.
    others = unasked(key, at.pool.images, images, most=attack.epochs * len(images))
    params = training.fit_resumably(
        partial,
        at.thief_key,
        network,
        images,
        targets,
        attack.recipe(),
        identity=config.settings(),
        loss=loss,
        unlabelled=others,
        on_epoch=lambda state, _: progress(state.epoch / attack.epochs),
        every_s=every_s,
    )
    return (training.FirstClasses(network, targets.shape[1]) if attack.labels == "s4l" else network), params


def changes(image_shape: tuple[int, int, int]) -> Any:
    """MixMatch's changes to an image, under which its class should stay.

    Photographs, which have colours, are shifted and mirrored as in the paper. Grey images show digits and letters: in
    the mirror a b is a d, so they are shifted alone, by two pixels, as much as MNIST leaves around its digits; what
    enters is their own black.
    """
    from pp_jax import augmentation

    return augmentation.CIFAR if image_shape[-1] == 3 else augmentation.bind(augmentation.random_crop, padding=2)
