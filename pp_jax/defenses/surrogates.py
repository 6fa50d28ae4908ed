"""The defender's surrogate: what it takes the attacker's model to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import numpy as np

from pp_jax._checks import check_count
from pp_jax.defenses.cards import Defender, NetworkSettings
from pp_jax.results.identity import describe
from pp_jax.training import Recipe, fit
from pp_jax.training.predicting import predict
from pp_jax.types import Params

Kind = Literal["random", "partial", "trained", "distilled"]


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """A stand-in for the attacker's model, kept by the defender.

    Attributes:
        kind: untrained (the paper's choice), trained on a few of the victim's images, on all of them, or distilled:
            trained on the victim's own posteriors of them.
        network: its architecture; the one that the defender presumes by default.
        epochs: passes over the data, where it is trained.
        partial_size: images that a partially trained one sees.

    Raises:
        ValueError: for a kind that does not exist or numbers below 1.
    """

    kind: Kind = "random"
    network: Any = None
    epochs: int = 2
    partial_size: int = 2000

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind is {self.kind!r}: must be one of {', '.join(get_args(Kind))}")
        for name in ("epochs", "partial_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: must be at least 1")

    def build(self, defender: Defender) -> tuple[Any, Params]:
        """The network and its parameters; one that is trained is kept and found again."""
        network, key = self.network or defender.presumed, defender.surrogate_key
        if self.kind == "random":
            return network, network.init(key, defender.image_shape)
        images, labels = defender.training_set()
        if self.kind == "partial":
            images, labels = images[: self.partial_size], labels[: self.partial_size]
        targets = labels
        if self.kind == "distilled":
            targets = predict(defender.network, defender.params, images)

        def make() -> tuple[Params, dict[str, Any]]:
            return fit(key, network, np.asarray(images), np.asarray(targets), Recipe(self.epochs)), {}

        like = jax.eval_shape(lambda: network.init(key, defender.image_shape))
        settings = {"of": describe(self), "network": describe(network), "key": describe(key)}
        return network, defender.keep(NetworkSettings("surrogate", settings), like, make)


RANDOM = Surrogate()


def train_network(
    defender: Defender,
    kind: str,
    network: Any,
    loss: Any,
    epochs: int,
    settings: Mapping[str, Any],
    *,
    unlabelled: Any = None,
) -> Params:
    """A network of a defense's own, trained once on the victim's data as the victim was, and kept.

    Args:
        defender: the victim and its data.
        kind: what the network is for.
        network: what is trained; its augmentation is the loss's affair.
        loss: how.
        epochs: passes over the data, at least 1.
        settings: what else determines it.
        unlabelled: images that the loss takes besides.
    """
    check_count("epochs", epochs, low=1)
    images, labels = defender.training_set()
    recipe = dataclasses.replace(defender.recipe, epochs=epochs, augment=None, privacy=None)
    targets = np.eye(defender.classes, dtype=np.float32)[np.asarray(labels)]

    def make() -> tuple[Params, dict[str, Any]]:
        key = jax.random.key(defender.seed)
        return fit(key, network, images, targets, recipe, loss=loss, unlabelled=unlabelled), {}

    like = jax.eval_shape(lambda: network.init(jax.random.key(0), defender.image_shape))
    what = NetworkSettings(kind, {**settings, "network": describe(network), "seed": defender.seed})
    return defender.keep(what, like, make)
