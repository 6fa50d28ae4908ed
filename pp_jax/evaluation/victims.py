"""The model that is attacked, as a value: network, parameters, and the data that its owner has."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from pp_jax._checks import as_labels, as_pixels
from pp_jax.evaluation.answered import AnsweredNetwork, table
from pp_jax.results.identity import digest, tree_digest
from pp_jax.serving.recorded import Recorded
from pp_jax.training import Recipe


@dataclasses.dataclass(frozen=True, eq=False)
class Victim:
    """A trained model, and what a defense of it may be fitted to.

    Attributes:
        network: `network(params, image) -> (K,)`; one of `pp_jax.models`, or any logits function.
        params: its parameters.
        images: its training images, (N, H, W, C), for defenses that are fitted to them; None where they are not at
            hand.
        labels: their classes, (N,).
        recipe: how it was trained; networks of a defense are trained alike.
        name: in tables, such as "mnist".
        settings: what else a record should tell, as JSON values.
        seed: of its training; networks of a defense start from this plus 1000.
        exposed: the same model trained with outlier exposure, for defenses that were published on one.

    Raises:
        ValueError: for images without labels or the other way round, or not as many.
    """

    network: Any
    params: Any
    images: Any = None
    labels: Any = None
    recipe: Recipe = Recipe(1)  # noqa: RUF009
    name: str = "victim"
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    exposed: Victim | None = None

    def __post_init__(self) -> None:
        """Check that images and labels belong together."""
        if (self.images is None) != (self.labels is None):
            raise ValueError("images and labels must be given both or neither")
        if self.images is not None:
            _checked(self)

    @classmethod
    def recorded(cls, source: Any, *, name: str = "recorded") -> Victim:
        """A victim of which nothing is known but what its API has answered; attackers need `network=` then.

        Args:
            source: as for `pp_jax.serving.Recorded`: a transfer set, a file, a folder. It must hold what is queried and
                what everyone is judged on.
            name: in tables.

        Raises:
            ValueError: for a source that holds no answers.
        """
        return cls(AnsweredNetwork(), table(Recorded(source)), name=name)

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this victim from others: its settings, and a digest of network, parameters and data."""
        data = "none" if self.images is None else digest([np.asarray(self.images), np.asarray(self.labels)])
        content = {"network": digest(self.network, where="network"), "params": tree_digest(self.params), "data": data}
        return {"dataset": self.name, **self.settings, "content": digest(content)}


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Images with a name, and labels where there are some: an attacker's pool, or what everyone is judged on.

    Attributes:
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        labels: (N,) class indices, or None.
        name: in tables.
        class_names: of the labels, for the report.
    """

    images: Any
    labels: Any = None
    name: str = "images"
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take lists as arrays and a column of labels as a row; refuse pixels and labels out of range."""
        _checked(self)

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """Name, number and digest."""
        labels = None if self.labels is None else np.asarray(self.labels)
        return {"name": self.name, "count": len(self.images), "content": digest([np.asarray(self.images), labels])}


def _checked(of: Victim | Images) -> None:
    """Put images and labels in place that are arrays, of as many rows, within their range."""
    object.__setattr__(of, "images", as_pixels(of.images))
    if of.labels is None:
        return
    object.__setattr__(of, "labels", as_labels(of.labels))
    if len(of.images) != len(of.labels):
        raise ValueError(f"images and labels must be as many: {len(of.images)} and {len(of.labels)}")
