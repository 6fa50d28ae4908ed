"""A gate, and behind it responses that say nothing of the image: a stored posterior of a class that a key chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from pp_jax._checks import check_range
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.fields import Fields
from pp_jax.defenses.keyed_swap import gate_of
from pp_jax.defenses.ood import Novelty
from pp_jax.defenses.resampled import Resampled
from pp_jax.geometry import simplex
from pp_jax.pytree import pytree
from pp_jax.types import Query

Closed = Literal["other", "drawn", "local", "label"]
Drawn = tuple[Fields | None, Fields | None]

_ROWS = 16
_RIPPLE_SIDE = 1024
_TINY = float(jnp.finfo(jnp.float32).tiny)


def _name(parameters: Mapping[str, Any]) -> str:
    """Its label."""
    return f"gated {parameters.get('closed', 'local')}"


@pytree
@dataclasses.dataclass(frozen=True)
class GatedResampled:
    """Answer in-distribution queries truly, and the others with a posterior that the key and the image choose.

    ỹ = y  where level(x) ≥ q, else by `closed`:
    "other"  stored[c, m], c uniform over the classes but argmax y, m uniform; drawn per image
    "drawn"  stored[c, m], c and m uniform (`Resampled`); drawn per image
    "local"  softmax(log stored[c, m] + ρ h(x)), c = argmax_c g_c(x), m = argmax_m g_{K+m}(x)
    "label"  y with the entries of argmax y and of c = argmax_c g_c(x) exchanged

    g are keyed smooth functions of the blurred image (`Fields`), so that near images get the same class and posterior,
    and h keyed smooth functions of its pixels, so that a posterior varies within such a cell as a victim's does:
    copies of an image that differ in a pixel are answered neither alike to the last bit nor by chance.

    "other" tells which class an image does *not* have, and so is learnt from with complementary labels; "drawn" is
    found out by copies of an image, whose responses jump. "drawn" and "local" depend on x and the key alone: behind
    the gate nothing of the victim is to be learnt, whoever looks. "label" keeps the victim's confidence, and tells it.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN; deterministic for one key and image. It promises no distance
    and does not keep the argmax.

    | posterior, parameters | response |
    |---|---|
    | one-hot, uniform, tied, denormal, K = 2; gate closed | "other", "label": by the first maximum; else independent |
    | q = 0 | y |
    | q = 1 or no novelty given | every query counts as out-of-distribution |
    | "label", c = argmax y | y; one query in K is answered truly by chance, under "drawn" and "local" as well |

    Attributes:
        novelty: the OOD detector, fitted to the victim; None to count every query as out-of-distribution.
        stored: M posteriors of each class, (K, M, K).
        cells: g, with K + M outputs; None where the response is drawn per image.
        ripple: h, with K outputs; None where stored posteriors are given as they are.
        share: q ∈ [0, 1], the p-value below which the gate is closed, and so the false-positive rate; a leaf.
        amplitude: ρ ≥ 0; a leaf.
        closed: how queries are answered where the gate is closed; static.

    Raises:
        ValueError: for a number out of range or another form of response.

    Source: this library; a conditional GAN's outputs behind a gate in han-x-z's "On Optimal Disruption".
    """

    novelty: Novelty | None
    stored: jax.Array
    cells: Fields | None
    ripple: Fields | None
    share: jax.Array | float = 0.02
    amplitude: jax.Array | float = 1.0
    closed: Closed = dataclasses.field(default="local", metadata={"static": True})

    card = Card(_name, Strength("share", 0.0, 0.02))

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("share", self.share, low=0, high=1)
        check_range("amplitude", self.amplitude, low=0, high=100)
        if self.closed not in get_args(Closed):
            raise ValueError(f"closed is {self.closed!r}: must be one of {', '.join(get_args(Closed))}")
        if (self.cells is None) != (self.closed in ("other", "drawn")):
            raise ValueError(f"cells must be given where closed is local or label, else be None: it is {self.closed}")

    @property
    def random(self) -> bool:
        """Whether the response is drawn per image."""
        return self.cells is None

    @property
    def reads_image(self) -> bool:
        """Whether there is a gate or cells, which look at the image."""
        return self.novelty is not None or self.cells is not None

    @classmethod
    def fitted(
        cls,
        defender: Defender,
        *,
        share: jax.Array | float = 0.02,
        closed: Closed = "local",
        width: float = 0.5,
        amplitude: float = 1.0,
    ) -> GatedResampled:
        """Make it for a victim: its gate, its posteriors of its training images, and cells drawn with its secret.

        Args:
            defender: the victim and its data; `surrogate_key` is the secret of the cells.
            share: q.
            closed: how queries are answered where the gate is closed.
            width: of a cell, in medians of the distance between two training images.
            amplitude: ρ.
        """
        stored = Resampled.fitted(defender, each=_ROWS).stored
        images = jnp.zeros((1, *defender.image_shape)) if defender.rehearsal else defender.training_set()[0]
        drawn: Drawn = (None, None)
        if closed in ("local", "label"):
            drawn = fields(defender.surrogate_key, images, stored.shape, width)
        gate = None if defender.rehearsal else gate_of(defender)
        return cls(gate, stored, drawn[0], drawn[1], share, amplitude, closed)

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> GatedResampled:
        """The same design with a key of the attacker's own, and without the gate: every query counts as strange."""
        del network
        images = jax.random.uniform(key, (32, *image_shape))
        drawn: Drawn = (None, None) if self.cells is None else fields(key, images, self.stored.shape, 0.5)
        return dataclasses.replace(self, novelty=None, cells=drawn[0], ripple=drawn[1])

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        probs = simplex.working(probs)
        if self.stored.shape[-1] != len(probs):
            raise ValueError(f"there are posteriors of {self.stored.shape[-1]} classes stored, of {len(probs)}")
        response = self.behind(probs, query).astype(probs.dtype)
        if self.novelty is None:
            return jnp.where(jnp.asarray(self.share) > 0, response, probs)
        return jnp.where(self.novelty.level(probs, query.image) < self.share, response, probs)

    def behind(self, probs: jax.Array, query: Query) -> jax.Array:
        """The response to one posterior, (K,), where the gate is closed."""
        classes, each, _ = self.stored.shape
        if self.closed == "drawn":
            return Resampled(self.stored)(probs, query)
        if self.cells is None:
            which, row = jax.random.split(query.key)
            other = (jnp.argmax(probs) + jax.random.randint(which, (), 1, classes)) % classes
            return self.stored[other, jax.random.randint(row, (), 0, each)]
        heights = self.cells(query.image)
        label = jnp.argmax(heights[:classes])
        if self.closed == "label":
            top = simplex.first_top(probs)
            return probs.at[top].set(probs[label]).at[label].set(probs[top])
        chosen = self.stored[label, jnp.argmax(heights[classes:])]
        if self.ripple is None:
            return chosen
        return jax.nn.softmax(jnp.log(jnp.maximum(chosen, _TINY)) + self.amplitude * self.ripple(query.image))


def fields(key: jax.Array, images: Any, shape: tuple[int, ...], width: float) -> tuple[Fields, Fields]:
    """Cells and ripple for stored posteriors of a shape (K, M, K)."""
    classes, each, _ = shape
    cell_key, ripple_key = jax.random.split(jax.random.fold_in(key, 7))
    cells = Fields.drawn(cell_key, images, outputs=classes + each, width=width)
    return cells, Fields.drawn(ripple_key, images, outputs=classes, width=width / 2, side=_RIPPLE_SIDE)
