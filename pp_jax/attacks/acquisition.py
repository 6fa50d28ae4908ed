"""Which images of a pool an attacker queries next, by what its substitute makes of them."""

import dataclasses
from typing import Any, ClassVar, Protocol

import jax
import numpy as np

from pp_jax._checks import check_count, check_range
from pp_jax.attacks.deepfool import margins
from pp_jax.training.predicting import predict
from pp_jax.types import Params

_CHUNK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """What an attacker knows between two rounds of queries.

    Attributes:
        network: the substitute's architecture.
        members: its trained parameters, one tree for each network of a committee, at least one.
        images: queried so far, (n, H, W, C).
        answers: the responses, (n, K), or class indices, (n,).
        budget: queries in all.
    """

    network: Any
    members: tuple[Params, ...]
    images: Any
    answers: Any
    budget: int

    @property
    def left(self) -> int:
        """Queries that remain."""
        return self.budget - len(self.answers)

    def posteriors(self, images: Any) -> np.ndarray:
        """The mean posterior of the members, (N, K)."""
        return np.mean([predict(self.network, params, images) for params in self.members], axis=0)

    def features(self, images: Any) -> np.ndarray:
        """The inputs of the last layer of the first member, (N, F)."""
        chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
        found = [_features(self.members[0], chunk, features_fn=self.network.features) for chunk in chunks]
        return np.concatenate([np.asarray(part) for part in found])


def _features_of(params: Params, images: jax.Array, *, features_fn: Any) -> jax.Array:
    """Features of one batch."""
    return jax.lax.map(lambda image: features_fn(params, image), images, batch_size=500)


_features = jax.jit(_features_of, static_argnames="features_fn")


class Acquisition(Protocol):
    """A rule of choice: a frozen dataclass."""

    @property
    def needs_features(self) -> bool:
        """Whether the substitute must have `features(params, image)`, as the networks of `pp_jax.models` do."""

    def __call__(self, key: jax.Array, known: Known, candidates: Any, count: int) -> np.ndarray:
        """Return `count` different rows of `candidates`, (N, H, W, C), N ≥ count, the most wanted first."""


@dataclasses.dataclass(frozen=True)
class Entropy:
    """The largest entropies H(x) = −Σ_k p_k log p_k of the substitute's posterior p, in nats.

    For a committee p is the mean of its members' posteriors, so that H is the consensus entropy.

    Source: Pal et al. 2020 ("uncertainty strategy"); Jindal et al. 2024.
    """

    needs_features: ClassVar[bool] = False

    def __call__(self, key: jax.Array, known: Known, candidates: Any, count: int) -> np.ndarray:
        """Return the rows, ties in their order."""
        del key
        return np.argsort(-entropies(known.posteriors(candidates)), kind="stable")[:count]


@dataclasses.dataclass(frozen=True)
class KCenter:
    """Greedy k-center: one after the other, the image whose posterior is farthest from all chosen and queried ones.

    x = argmax over the candidates of min over centres c of ‖p(x) − p(c)‖₂; the centres are at first what was queried.

    Source: Sener, Savarese 2018, in the space of the substitute's posteriors, as Pal et al. 2020.
    """

    needs_features: ClassVar[bool] = False

    def __call__(self, key: jax.Array, known: Known, candidates: Any, count: int) -> np.ndarray:
        """Return the rows in the order of choice, ties in theirs."""
        del key
        return farthest_first(known.posteriors(candidates), known.posteriors(known.images), count)


@dataclasses.dataclass(frozen=True)
class DFAL:
    """The smallest DeepFool norms: what is nearest to a decision boundary of the substitute.

    For a committee the mean over its members.

    Attributes:
        steps: of DeepFool, at most.
        classes: of an image that DeepFool tries, the likeliest.

    Raises:
        ValueError: for counts below 1.

    Source: Ducoffe, Precioso 2018, as used by Pal et al. 2020.
    """

    steps: int = 50
    classes: int = 10
    needs_features: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the counts."""
        check_count("steps", self.steps, low=1)
        check_count("classes", self.classes, low=2)

    def __call__(self, key: jax.Array, known: Known, candidates: Any, count: int) -> np.ndarray:
        """Return the rows, ties in their order."""
        del key
        norms = [
            margins(known.network, params, candidates, steps=self.steps, classes=self.classes)
            for params in known.members
        ]
        return np.argsort(np.mean(norms, axis=0), kind="stable")[:count]


@dataclasses.dataclass(frozen=True)
class DFALKCenter:
    """The smallest DeepFool norms first, and greedy k-center among these.

    Attributes:
        dfal: the first choice.
        kept: how many images it leaves to the second; as many as the budget by default, as published.

    Raises:
        ValueError: for fewer than one.

    Source: Pal et al. 2020.
    """

    dfal: DFAL = DFAL()
    kept: int | None = None
    needs_features: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the count."""
        if self.kept is not None:
            check_count("kept", self.kept, low=1)

    def __call__(self, key: jax.Array, known: Known, candidates: Any, count: int) -> np.ndarray:
        """Return the rows in the order of the second choice."""
        most = max(count, min(len(candidates), known.budget if self.kept is None else self.kept))
        near = self.dfal(key, known, candidates, most)
        return near[KCenter()(key, known, candidates[near], count)]


@dataclasses.dataclass(frozen=True)
class RareClasses:
    """Entropy while queries are plenty, and then what looks like the classes that were answered least.

    With N_k responses of class k, μ their mean over the K classes and R the classes below it: entropy as long as the
    queries left exceed Σ_{k ∈ R} (μ − N_k). Then the rarest class first, up to μ of each, the largest densities

    s(x) = Σ_i exp(−‖h(x) − h(x_i)‖² / 2σ²) over the queried images x_i of that class, h the substitute's features

    A class without any response has no x_i to look like and is passed over. The published code takes a fifth of a round
    for the rarest class and asks before it takes the next; here a round is chosen at once.

    Attributes:
        bandwidth: σ.

    Raises:
        ValueError: for a bandwidth that is not above 0.

    Source: Lee, Han, Lee, "SwiftThief", IJCAI 2024.
    """

    bandwidth: float = 1.0
    needs_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the bandwidth."""
        check_range("bandwidth", self.bandwidth, low=0, high=float("inf"), open_low=True)

    def __call__(self, key: jax.Array, known: Known, candidates: Any, count: int) -> np.ndarray:
        """Return the rows."""
        probs = known.posteriors(candidates)
        labels = known.answers if np.ndim(known.answers) == 1 else np.asarray(known.answers).argmax(axis=1)
        found = np.bincount(labels, minlength=probs.shape[1])
        lacking = np.maximum(found.mean() - found, 0)
        uncertain = np.argsort(-entropies(probs), kind="stable")
        if known.left > lacking.sum():
            return uncertain[:count]
        theirs, ours = known.features(candidates), known.features(known.images)
        taken: list[int] = []
        for label in np.argsort(found, kind="stable"):
            wanted = min(int(np.ceil(lacking[label])), count - len(taken))
            if wanted and found[label]:
                scores = _log_density(theirs, ours[labels == label], self.bandwidth)
                scores[taken] = -np.inf
                taken += np.argsort(-scores, kind="stable")[:wanted].tolist()
        rest = uncertain[~np.isin(uncertain, taken)]
        return np.concatenate([np.asarray(taken, int), rest])[:count]


def entropies(probs: np.ndarray) -> np.ndarray:
    """−Σ_k p_k log p_k of the rows of (N, K), in nats; 0 log 0 = 0."""
    probs = np.asarray(probs, np.float64)
    return -(probs * np.log(np.where(probs > 0, probs, 1))).sum(axis=1)


def farthest_first(points: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """Greedy k-center: `count` rows of `points`, (N, K), each the farthest from `centres`, (M, K), and those before."""
    points, centres = np.asarray(points, np.float64), np.asarray(centres, np.float64)
    nearest = np.full(len(points), np.inf)
    for first in range(0, len(centres), _CHUNK):
        nearest = np.minimum(nearest, _squares(points, centres[first : first + _CHUNK]).min(axis=1))
    chosen = np.empty(count, int)
    for number in range(count):
        chosen[number] = row = int(nearest.argmax())
        nearest = np.minimum(nearest, ((points - points[row]) ** 2).sum(axis=1))
        nearest[row] = -1
    return chosen


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared distances of all rows, (N, M)."""
    found = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return np.maximum(found, 0)


def _log_density(points: np.ndarray, centres: np.ndarray, bandwidth: float) -> np.ndarray:
    """log Σ_i exp(−‖p − c_i‖²/2σ²) for every point, which does not underflow."""
    exponents = -_squares(np.asarray(points, np.float64), np.asarray(centres, np.float64)) / (2 * bandwidth**2)
    largest = exponents.max(axis=1)
    return largest + np.log(np.exp(exponents - largest[:, None]).sum(axis=1))
