"""What a defense's own class says of it: name, strength, published settings; and what it may be fitted to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from pp_jax.results import checkpoints, records
from pp_jax.types import Params


class Strength(NamedTuple):
    """What is turned to make a defense stronger.

    Attributes:
        parameter: its name.
        low: the weakest value, at which the defense costs nothing.
        high: the strongest.
    """

    parameter: str
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Card:
    """How tables, calibration and the command line see a defense; the class attribute `card`.

    Attributes:
        label: its name in tables; a function of the parameters where these change it.
        strength: what calibration turns; None where there is nothing to turn.
        published: parameters that its authors report; empty where they report none, or a range.
        trained: whether the defense trains networks of its own on the victim's data.
        exposed: whether it was published on a victim with outlier exposure.
    """

    label: str | Callable[[Mapping[str, Any]], str]
    strength: Strength | None = None
    published: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trained: bool = False
    exposed: bool = False

    def named(self, parameters: Mapping[str, Any]) -> str:
        """The label of a defense with these parameters."""
        return self.label if isinstance(self.label, str) else self.label(parameters)


@runtime_checkable
class Carded(Protocol):
    """A defense class, or an object of it, that has a card; others are called by their class."""

    card: ClassVar[Card]


@runtime_checkable
class Fitted(Protocol):
    """A defense class that is made for a victim: with a surrogate, networks or statistics of the victim's data."""

    @classmethod
    def fitted(cls, defender: Defender, **parameters: Any) -> Any:
        """Return the defense, its networks trained or found again."""


@runtime_checkable
class Presumable(Protocol):
    """A defense with secrets: what an attacker who knows its design would build without them."""

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> Any:
        """Return the attacker's version, made with its own network; None where it cannot be built."""


def presumed(defense: Any, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> Any:
    """What an attacker takes a defense for: without its secrets, or as it is where it has none but the key.

    Args:
        defense: as it is deployed.
        key: randomness of the attacker's own surrogate.
        network: the attacker's architecture.
        image_shape: (H, W, C) of the queries.

    Returns:
        A defense, or None where it cannot be built.
    """
    return defense.presumed(key, network, image_shape) if isinstance(defense, Presumable) else defense


class NetworkSettings(NamedTuple):
    """A network that a defender trains for itself.

    Attributes:
        kind: what it is for.
        settings: all that determines it, besides the victim's data.
    """

    kind: str
    settings: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Defender:
    """What a defender has when a defense is made: its victim, its data, and what it presumes of the attacker.

    Attributes:
        network: of the victim.
        params: of the victim.
        images: the victim's training images, (N, H, W, C); None where they are not at hand.
        labels: their classes, (N,).
        recipe: how the victim was trained; networks of a defense are trained alike.
        classes: K.
        image_shape: (H, W, C) of the queries.
        presumed: the architecture that the defender presumes the attacker to have.
        surrogate_key: randomness of an untrained surrogate, and of what else a defense must keep to itself.
        seed: of networks that the defender trains for itself.
        outliers: images of another distribution that the defender owns, (M, H, W, C).
        identity: what tells this victim from others, as JSON values.
        kept: folder of trained networks; None keeps nothing.
        rehearsal: whether defenses are made only to see whether they can be: nothing is trained or fitted.
    """

    network: Any
    params: Params
    images: Any
    labels: Any
    recipe: Any
    classes: int
    image_shape: tuple[int, int, int]
    presumed: Any
    surrogate_key: jax.Array
    seed: int = 1000
    outliers: Any = None
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kept: Path | None = None
    rehearsal: bool = False

    def training_set(self) -> tuple[Any, Any]:
        """The victim's training images and labels.

        Raises:
            ValueError: where there are none.
        """
        if self.images is None or self.labels is None:
            raise ValueError("the victim has no training images: give Victim(…, images=…, labels=…), not None")
        return self.images, self.labels

    def need_outliers(self, name: str) -> Any:
        """The outliers, for the defense of this name.

        Raises:
            ValueError: where there are none.
        """
        if self.outliers is None:
            raise ValueError(f"{name} needs images of another distribution: outliers is None, must be (M, H, W, C)")
        return self.outliers

    def keep(self, what: NetworkSettings, like: Any, make: Callable[[], tuple[Params, Mapping[str, Any]]]) -> Params:
        """The parameters of a network that is trained once: by one process, found again by whoever asks next.

        Args:
            what: which network.
            like: shapes and types of its parameters.
            make: trains it: parameters, and what there is to say of them.
        """
        if self.rehearsal:
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        if self.kept is None:
            return make()[0]
        settings = {"networks": {"kind": what.kind, **what.settings}, "victim": dict(self.identity)}
        weights = self.kept / f"{records.key(settings)}.safetensors"

        def ready() -> bool:
            return weights.exists() and records.find(self.kept or "", settings) is not None

        if not ready():
            records.check_writable(self.kept)
            with records.claim(self.kept, settings, wait=True):
                if not ready():
                    params, result = make()
                    checkpoints.save(weights, params, metadata=settings)
                    records.write(self.kept, kind="networks", config=settings, result=result, timings={})
        return checkpoints.load(weights, like=like)[0]
