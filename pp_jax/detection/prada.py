"""PRADA: the distances between a benign account's queries look normally distributed, an attacker's do not."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pp_jax._checks import check_count
from pp_jax.detection.shapiro import shapiro
from pp_jax.detection.sometimes import when
from pp_jax.detection.views import Pixels, View
from pp_jax.detection.windows import Window, empty, push
from pp_jax.pytree import pytree
from pp_jax.types import SummarisingDetector


class PradaState(NamedTuple):
    """What PRADA remembers of an account.

    Attributes:
        members: the growing sets of all classes, the last `capacity` members, with the class of each behind it.
        classes: the class of each member.
        thresholds: T_c, (K,).
        steps: number, mean and sum of squared deviations of the distances at which each set grew, (3, K).
        distances: the last `window` distances.
        distance_classes: the class of each distance.
        seen: queries so far.
        score: that of the last test.
    """

    members: Window
    classes: jax.Array
    thresholds: jax.Array
    steps: jax.Array
    distances: Window
    distance_classes: jax.Array
    seen: jax.Array
    score: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class Prada(SummarisingDetector[PradaState]):
    """PRADA: test every tenth query whether the distances to earlier queries of the same class look normal.

    d = min over the growing set G_c of ‖x − z‖₂;   x joins G_c if d > T_c;   T_c ← max(T_c, mean(D_c) − std(D_c))

    with D_c = {0} and the distances at which G_c grew. The score is 1 − W, W the Shapiro–Wilk statistic of all
    distances (of classes with ten or more of them, without those beyond three standard deviations) where there are more
    than a hundred. The published rule raises the alarm at W < δ, that is a score above 1 − δ.

    The first query of a class has no distance. Between tests the last score stands; before the first it is −∞.

    Memory an account: 4·(capacity·(D + 1) + 2·window + 4·K) bytes, e.g. 70 KB for a projection to 32 numbers.

    Attributes:
        classes: K; static.
        view: what distances are measured in; pixels as published.
        size: D, the length of its vectors; static.
        capacity: members of all growing sets that are remembered; the oldest makes room; static.
        window: distances that are remembered; static.
        every: queries from test to test; static.

    Raises:
        ValueError: for a count below 1.

    Source: Juuti, Szyller, Marchal, Asokan, "PRADA: protecting against DNN model stealing attacks", EuroS&P 2019.
    """

    classes: int = dataclasses.field(metadata={"static": True})
    size: int = dataclasses.field(metadata={"static": True})
    view: View = Pixels()  # noqa: RUF009
    capacity: int = dataclasses.field(default=512, metadata={"static": True})
    window: int = dataclasses.field(default=512, metadata={"static": True})
    every: int = dataclasses.field(default=10, metadata={"static": True})

    def __post_init__(self) -> None:
        """Check the counts."""
        for name in ("classes", "size", "capacity", "window", "every"):
            check_count(name, getattr(self, name), low=1)

    def init(self) -> PradaState:
        """Return the memory before the first query."""
        classes = jnp.full(self.capacity, -1, jnp.int32)
        steps = jnp.zeros((3, self.classes)).at[0].set(1)
        distances, labels = empty(self.window), jnp.full(self.window, -1, jnp.int32)
        members, never = empty(self.capacity, (self.size,)), jnp.asarray(-jnp.inf, jnp.float32)
        return PradaState(
            members, classes, jnp.zeros(self.classes), steps, distances, labels, jnp.zeros((), jnp.int32), never
        )

    def summarise(self, image: jax.Array, probs: jax.Array, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the query as a vector, (D,), and its predicted class."""
        return self.view(image, features), jnp.argmax(probs).astype(jnp.int32)

    def fold(self, state: PradaState, summary: tuple[jax.Array, jax.Array]) -> tuple[PradaState, jax.Array]:
        """Return the memory after a query, and the score 1 − W."""
        x, label = summary
        due = state.seen % self.every == 0
        own = state.classes == label
        known = own.any()
        d = jnp.sqrt(jnp.min(jnp.where(own, jnp.sum((state.members.rows - x[None, :]) ** 2, axis=1), jnp.inf)))
        grows = ~known | (d > state.thresholds[label])
        steps, threshold = _grown(state.steps[:, label], state.thresholds[label], d)
        grown = known & grows
        new = state._replace(
            members=push(state.members, x, keep=grows),
            classes=_put(state.members, state.classes, label, keep=grows),
            thresholds=jnp.where(grown, state.thresholds.at[label].set(threshold), state.thresholds),
            steps=jnp.where(grown, state.steps.at[:, label].set(steps), state.steps),
            distances=push(state.distances, d, keep=known),
            distance_classes=_put(state.distances, state.distance_classes, label, keep=known),
            seen=state.seen + 1,
        )
        score = when(due, Prada._tested, state.score, self, new)
        return new._replace(score=score), score

    def _tested(self, state: PradaState) -> jax.Array:
        """1 − W, or the last score where there are too few distances."""
        counts = jnp.sum(state.distance_classes[:, None] == jnp.arange(self.classes)[None, :], axis=0)
        counted = (state.distance_classes >= 0) & (counts[state.distance_classes] >= 10)
        number = jnp.sum(counted)
        values = jnp.where(counted, state.distances.rows, 0)
        mean = jnp.sum(values) / number
        spread = jnp.sqrt(jnp.sum(jnp.where(counted, values - mean, 0) ** 2) / number)
        kept = counted & (jnp.abs(values - mean) < 3 * spread)
        return jnp.where(number > 100, 1 - shapiro(values, mask=kept).w, state.score)


def _grown(steps: jax.Array, threshold: jax.Array, d: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Number, mean and squared deviations (Welford) with another distance, and the threshold after it."""
    count, mean, squares = steps
    after = mean + (d - mean) / (count + 1)
    squares = squares + (d - mean) * (d - after)
    steps = jnp.stack([count + 1, after, squares])
    return steps, jnp.maximum(threshold, after - jnp.sqrt(squares / (count + 1)))


def _put(window: Window, values: jax.Array, value: jax.Array, *, keep: jax.Array) -> jax.Array:
    """A second column of a window, with another entry where the window would put its next row."""
    place = jnp.where(keep, window.seen % len(values), len(values))
    return values.at[place].set(value.astype(values.dtype), mode="drop")
