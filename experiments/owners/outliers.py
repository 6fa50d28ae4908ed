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


@dataclasses.dataclass(frozen=True)
class Exposed:
    """The loss of a victim with outlier exposure, for `recovery.fit_semi`.

    L = CE(t, softmax(z)) + weight · mean over outliers of −(1/K) Σ_k log f_k

    Attributes:
        weight: of the second term (published: .5).
        augment: (key, image) to image, for the victim's own data; hashable.
    """

    weight: float = 0.5
    augment: Any = None

    def __call__(self, network: Any, params: Any, images: Any, targets: Any, others: Any, key: Any) -> Any:
        """The loss, and the parameters with the batch statistics of the victim's own data."""
        import jax
        import jax.numpy as jnp

        from pp_jax.defenses import misinformation
        from pp_jax.training import soft_cross_entropy

        logits, updated = network.train(params, augmented(self.augment, key, images))
        foreign, _ = network.train(params, others)
        exposure = jnp.mean(jax.vmap(misinformation.outlier_exposure)(foreign))
        return soft_cross_entropy(logits, targets) + self.weight * exposure, updated


def augmented(augment: Any, key: Any, images: Any) -> Any:
    """Each image changed with a key of its own, or as it is."""
    import jax

    return images if augment is None else jax.vmap(augment)(jax.random.split(key, len(images)), images)


def fit(seed: int, network: Any, train: Any, others: Any, recipe: Any, *, loss: Any, title: str) -> Any:
    """Train with a loss over the victim's data and outliers, with a progress bar; parameters.

    The recipe's augmentation is the loss's affair.
    """
    import jax
    import numpy as np
    from rich.progress import Progress

    from pp_jax import recovery

    targets = np.eye(train.num_classes, dtype=np.float32)[train.labels]
    plain = dataclasses.replace(recipe, augment=None)
    with Progress() as bars:
        bar = bars.add_task(title, total=recipe.epochs)
        return recovery.fit_semi(
            jax.random.key(seed), network, train.images, targets, others, plain, loss=loss,
            on_epoch=lambda epoch, _: bars.update(bar, completed=epoch),
        )  # fmt: skip
