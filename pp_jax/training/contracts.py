"""What training asks of a network and of a loss."""

from collections.abc import Hashable
from typing import Any, Protocol, runtime_checkable

import jax

from pp_jax.types import Params


@runtime_checkable
class Trainable(Protocol):
    """A network that can be trained, as those of `pp_jax.models`; hashable.

    A class of your own that derives from it has the default of `vmapped`; one that does not defines it itself.
    """

    def __hash__(self) -> int:
        """Equal networks share one compiled program."""
        return object.__hash__(self)

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Params:
        """Return fresh parameters, `{"params": ...}` and what else the network keeps, for images (H, W, C)."""

    def train(self, params: Params, images: jax.Array) -> tuple[jax.Array, Params]:
        """Logits (B, K) of a batch in training mode, and the parameters with their batch statistics updated."""

    @property
    def vmapped(self) -> "Trainable":
        """The same function in the form that is fast under `vmap` over the parameters; by default the network."""
        return self


class Loss(Hashable, Protocol):
    """What training minimises: a scalar for a batch; hashable, best a frozen dataclass, so that equal losses share one
    compiled program."""

    def __call__(
        self,
        network: Trainable,
        params: Params,
        images: jax.Array,
        targets: jax.Array,
        unlabelled: jax.Array | None,
        key: Any,
    ) -> tuple[jax.Array, Params]:
        """Return the loss of a batch, and the parameters with the batch statistics of its images.

        Args:
            network: what is trained.
            params: its parameters; the gradient is with respect to `params["params"]`.
            images: (B, H, W, C).
            targets: (B, K) soft labels, or (B,) class indices.
            unlabelled: (B, H, W, C) images without targets, or None where `fit` was given none.
            key: randomness of this step alone.
        """


@runtime_checkable
class ClassLoss(Protocol):
    """A loss whose targets are classes or soft labels: `fit` refuses those that do not fit the network.

    What the targets of another loss may be is the loss's affair; `fit` looks at their number alone.
    """

    def classes(self, outputs: int) -> int:
        """How many of a network's outputs are classes, K."""


@runtime_checkable
class WrappingLoss(Protocol):
    """A loss that trains more than the network's own outputs: it brings a network around the attacker's."""

    def around(self, network: Any) -> Any:
        """Return the network that is trained in place of `network`, and predicts the same classes."""


@runtime_checkable
class LabelledLoss(Protocol):
    """A loss that says whether it looks at unlabelled images; others are taken to learn from them."""

    reads_unlabelled: bool


def check_trainable(network: Any) -> None:
    """Refuse a network that lacks a part of the contract.

    Raises:
        ValueError: naming its class.
    """
    if not isinstance(network, Trainable):
        raise ValueError(
            f"network must have init, train and vmapped, not all of which {type(network).__name__} has: "
            "derive its class from pp_jax.training.Trainable"
        )
