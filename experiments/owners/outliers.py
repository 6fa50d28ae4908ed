"""Images of another distribution, which the defender owns: what a victim must not be confident about."""

import dataclasses
from pathlib import Path
from typing import Any

from cells.resizing import resized


def load(dataset: str, image_shape: tuple[int, int, int], data_dir: Path | None) -> Any:
    """The training images of a data set at the size of a victim's, (N, H, W, C).

    Raises:
        ValueError: where one is grey and the other coloured.
    """
    from pp_jax import data

    found = data.load(dataset, "train", data_dir=data_dir)
    if found.image_shape[-1] != image_shape[-1]:
        raise ValueError(
            f"outliers {dataset} have {found.image_shape[-1]} channels: must have {image_shape[-1]} as the victim's"
        )
    return (found if found.image_shape == image_shape else resized(found, image_shape)).images


def check(dataset: str | None, *, victims: str, pool: str | None = None) -> None:
    """Refuse outliers that are the victim's own data or what the thief asks about, which no defender knows.

    Raises:
        ValueError: naming the data set.
    """
    if dataset is None:
        return
    if dataset == victims:
        raise ValueError(f"outliers is {dataset}: must not be what the victim is trained on")
    if dataset == pool:
        raise ValueError(f"outliers is {dataset}: must not be the thief's pool, which the defender does not know")


def fit(
    seed: int,
    network: Any,
    train: Any,
    others: Any,
    recipe: Any,
    *,
    loss: Any,
    title: str,
    kept: tuple[Path, dict[str, Any]] | None = None,
) -> Any:
    """Train with a loss over the victim's data and outliers, with a progress bar; parameters.

    The recipe's augmentation is the loss's affair. Killed, it goes on from the folder of `kept`, which belongs to the
    settings there.
    """
    import jax
    import numpy as np
    from rich.progress import Progress

    from pp_jax import training

    targets = np.eye(train.num_classes, dtype=np.float32)[train.labels]
    plain = dataclasses.replace(recipe, augment=None)
    with Progress() as bars:
        bar = bars.add_task(title, total=recipe.epochs)
        options: dict[str, Any] = {
            "loss": loss,
            "unlabelled": others,
            "on_epoch": lambda state, _: bars.update(bar, completed=state.epoch),
        }
        arguments = (jax.random.key(seed), network, train.images, targets, plain)
        if kept is None:
            return training.fit(*arguments, **options)
        folder, settings = kept
        return training.fit_resumably(folder, *arguments, identity=settings, **options)
