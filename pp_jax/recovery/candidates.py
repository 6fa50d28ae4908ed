"""The defenses that an attacker who is told nothing takes into account, and what it does about each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax.defenses.composition import UNDEFENDED
from pp_jax.defenses.keyed_swap import KeyedSwap
from pp_jax.defenses.mad import MAD
from pp_jax.defenses.modelguard import ModelGuardW
from pp_jax.defenses.random_noise import RandomNoise
from pp_jax.defenses.reverse_sigmoid import ReverseSigmoid
from pp_jax.defenses.truncation import Rounding, Top1, TopK
from pp_jax.recovery.inversion import Inversion
from pp_jax.recovery.neighbours import Neighbours
from pp_jax.recovery.selecting import AsGiven, HardLabel
from pp_jax.solvers import MinInner, oracle
from pp_jax.solvers.heuristic import LineSearch
from pp_jax.types import Params, Recovery

# Of a move towards one class: how far the classifier may have been off, and how narrow the heap of entries is.
_NEAR, _WIDTH = 0.12, 0.002


class Own(NamedTuple):
    """What an attacker puts in place of a defender's secrets.

    Attributes:
        network: its architecture.
        surrogate: fresh parameters of it.
        partners: pairs of classes, (K,): random ones where it simulates, those that the responses suggest afterwards.
    """

    network: Any
    surrogate: Params
    partners: jax.Array


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A defense with one unknown number, and the recovery that fits it.

    Attributes:
        name: of the defense; candidates may share one, where they differ in a setting that is no number.
        make: `make(own, strength)`, the defense without its secrets; a named function.
        low: the smallest strength that is simulated.
        high: the largest; equal to `low` where there is nothing to vary.
        recovery: what is done about it.
        read: `read(responses, strength)`, a closer look at the strength where the classifier has named one; a named
            function.

    Raises:
        ValueError: for a range that is none.
    """

    name: str
    make: Callable[[Own, Any], Any]
    low: float = 0.0
    high: float = 0.0
    recovery: Recovery = AsGiven()  # noqa: RUF009
    read: Callable[[np.ndarray, float], float] | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        if not -float("inf") < self.low <= self.high < float("inf"):
            raise ValueError(f"low is {self.low} and high {self.high}: must be finite, low at most high")


def undefended(own: Own, strength: Any) -> Any:
    """No defense."""
    del own, strength
    return UNDEFENDED


def label(own: Own, strength: Any) -> Top1:
    """Hard labels as one-hots."""
    del own, strength
    return Top1()


def two_classes(own: Own, strength: Any) -> TopK:
    """The two largest entries."""
    del own, strength
    return TopK(2)


def three_classes(own: Own, strength: Any) -> TopK:
    """The three largest entries."""
    del own, strength
    return TopK(3)


def one_decimal(own: Own, strength: Any) -> Rounding:
    """Rounded to tenths."""
    del own, strength
    return Rounding(1)


def two_decimals(own: Own, strength: Any) -> Rounding:
    """Rounded to hundredths."""
    del own, strength
    return Rounding(2)


def noise(own: Own, strength: Any) -> RandomNoise:
    """Noise in logit space of this radius."""
    del own
    return RandomNoise(strength)


def reverse_sigmoid(own: Own, strength: Any) -> ReverseSigmoid:
    """Magnitude β, at the slope γ = 0.2 that is published for most sets."""
    del own
    return ReverseSigmoid(strength, 0.2)


def steep_reverse_sigmoid(own: Own, strength: Any) -> ReverseSigmoid:
    """Magnitude β, at the slope γ = 0.4 that is published for FashionMNIST."""
    del own
    return ReverseSigmoid(strength, 0.4)


def mad(own: Own, strength: Any) -> MAD:
    """MAD of budget ε with the attacker's own surrogate."""
    return MAD(own.network, own.surrogate, strength)


def mad_argmax(own: Own, strength: Any) -> MAD:
    """MAD-argmax of budget ε."""
    return MAD.argmax_preserving(own.network, own.surrogate, strength)


def min_inner(own: Own, strength: Any) -> MAD:
    """The minimum inner product of budget ε."""
    return MAD(own.network, own.surrogate, strength, solver=MinInner())


def least_likely(own: Own, strength: Any) -> MAD:
    """A line search of budget ε towards the least likely class."""
    return MAD(own.network, own.surrogate, strength, solver=LineSearch(oracle.least_likely))


def modelguard(own: Own, strength: Any) -> ModelGuardW:
    """ModelGuard-W of budget ε."""
    del own
    return ModelGuardW(strength)


def swap(own: Own, strength: Any) -> KeyedSwap:
    """Every query swapped with probability one half."""
    del strength
    return KeyedSwap(None, own.partners)


def raised_by(responses: np.ndarray, strength: float) -> float:
    """The budget ε of a move towards one class, (n, K): twice the value at which most entries lie.

    The class that is raised has ỹ_j = y_j + ε/2, and most often y_j is next to nothing.
    """
    entries = np.sort(np.ravel(responses))
    entries = entries[np.abs(entries - strength / 2) < _NEAR]
    if len(entries) == 0:
        return strength
    counts = np.searchsorted(entries, entries + _WIDTH) - np.arange(len(entries))
    return float(2 * entries[counts.argmax()])


CANDIDATES = (
    Candidate("none", undefended),
    Candidate("top-1", label, recovery=HardLabel()),
    Candidate("top-k", two_classes),
    Candidate("top-k", three_classes),
    Candidate("rounding", one_decimal),
    Candidate("rounding", two_decimals),
    Candidate("random noise", noise, 5.0, 60.0),
    Candidate("reverse sigmoid", reverse_sigmoid, 0.2, 1.0, HardLabel()),
    Candidate("reverse sigmoid", steep_reverse_sigmoid, 0.2, 1.0, HardLabel()),
    Candidate("MAD", mad, 0.2, 1.5, Inversion(), raised_by),
    Candidate("MAD-argmax", mad_argmax, 0.2, 2.0, HardLabel()),
    Candidate("minimum inner product", min_inner, 0.2, 1.5, Inversion(), raised_by),
    Candidate("least likely class", least_likely, 0.2, 1.5, Inversion(), raised_by),
    Candidate("ModelGuard-W", modelguard, 0.2, 2.0, HardLabel()),
    Candidate("KeyedSwap", swap, recovery=Neighbours()),
)
"""The list of `DefenseInference`. Each recovery is the one that gets most from its defense on MNIST
(docs/results/worst_case.md)."""
