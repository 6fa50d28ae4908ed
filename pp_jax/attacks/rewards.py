"""What makes a response worth having: the rewards of an adaptive attacker, on the host in float64.

A reward is given the responses of one round in the order in which they came, and carries what it must remember.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

# A reward that varies by less than this is constant: the rest is the rounding of float32 responses.
_SPREAD = 1e-7
# log of the smallest normal float64: what a posterior of zero counts as.
_LOG_ZERO = float(np.log(np.finfo(np.float64).tiny))


class Reward(Protocol):
    """A reward: a small frozen object; larger values say that the class asked about is worth asking again."""

    @property
    def needs_thief(self) -> bool:
        """Whether it looks at what the attacker would have answered."""

    def init(self) -> Any:
        """Return the memory before the first answer."""

    def __call__(self, memory: Any, answers: np.ndarray, guesses: np.ndarray | None) -> tuple[np.ndarray, Any]:
        """Return the rewards (b,) of `answers` (b, K), and the memory after them.

        `guesses` (b, K) are the attacker's log-posteriors from before it learnt from these responses, or None.
        """


@dataclasses.dataclass(frozen=True)
class Certainty:
    """Margin of the response, r = y₍₁₎ − y₍₂₎ ∈ [0, 1], its two largest entries: the victim knows such images.

    Source: Orekondy et al. 2019, §4.1.
    """

    needs_thief: ClassVar[bool] = False

    def init(self) -> None:
        """Nothing is remembered."""

    def __call__(self, memory: None, answers: np.ndarray, guesses: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """Return the margins, (b,)."""
        del memory, guesses
        if answers.shape[1] == 1:
            return answers[:, 0], None
        largest = np.partition(answers, (-2, -1), axis=1)
        return largest[:, -1] - largest[:, -2], None


class Recent(NamedTuple):
    """The sums of the first n answers for the latest n, (rows, K), and how many responses there were."""

    sums: np.ndarray | None = None
    answered: int = 0


@dataclasses.dataclass(frozen=True)
class Diversity:
    """Novelty of the response, r = Σ_k max(0, y_k − ȳ_k) ∈ [0, 1], ȳ the mean response so far: no label is preferred.

    Attributes:
        window: how many responses the mean is over, the latest; all by default.
        current: whether the response itself is one of them. If not, the mean before the first answer is zero.

    Raises:
        ValueError: for a window below 1.

    Source: Orekondy et al. 2019, §4.1.
    """

    needs_thief: ClassVar[bool] = False
    window: int | None = None
    current: bool = True

    def __post_init__(self) -> None:
        """Check the window."""
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1, not {self.window}")

    def init(self) -> Recent:
        """Nothing has been answered."""
        return Recent()

    def __call__(
        self, memory: Recent, answers: np.ndarray, guesses: np.ndarray | None = None
    ) -> tuple[np.ndarray, Recent]:
        """Return the novelties, (b,)."""
        del guesses
        before = np.zeros((1, answers.shape[1])) if memory.sums is None else memory.sums
        sums = np.concatenate([before, before[-1] + np.cumsum(answers, axis=0)])
        answered = memory.answered + len(answers)
        # Row i of `sums` is over the first `first + i` responses.
        first = answered - len(sums) + 1
        ends = memory.answered + np.arange(len(answers)) + self.current
        starts = np.zeros_like(ends) if self.window is None else np.maximum(ends - self.window, 0)
        total = sums[ends - first] - (0 if self.window is None else sums[starts - first])
        means = total / np.maximum(ends - starts, 1)[:, None]
        kept = sums[-1:] if self.window is None else sums[-(self.window + 1) :]
        return np.maximum(answers - means, 0).sum(axis=1), Recent(kept, answered)


@dataclasses.dataclass(frozen=True)
class Loss:
    """Cross-entropy of the attacker's posterior, r = −Σ_k y_k log F(x)_k ≥ 0 in nats: what it does not know yet.

    A posterior of zero counts as the smallest normal float64, that of an attacker that diverged to NaN as 1/K.

    Source: Orekondy et al. 2019, §4.1.
    """

    needs_thief: ClassVar[bool] = True

    def init(self) -> None:
        """Nothing is remembered: the attacker is trained by the attack."""

    def __call__(self, memory: None, answers: np.ndarray, guesses: np.ndarray | None) -> tuple[np.ndarray, None]:
        """Return the cross-entropies, (b,)."""
        del memory
        if guesses is None:
            raise ValueError("the reward Loss() compares answers with a thief's log-posteriors, not with None")
        logs = np.nan_to_num(guesses, nan=-np.log(guesses.shape[1]), neginf=_LOG_ZERO)
        return -(answers * np.maximum(logs, _LOG_ZERO)).sum(axis=1), None


class Moments(NamedTuple):
    """Of every reward so far: their number, their sums (R,), and the sums of squared deviations (R,)."""

    answered: int
    total: np.ndarray
    squares: np.ndarray


def no_moments(rewards: int) -> Moments:
    """The moments before the first answer."""
    return Moments(0, np.zeros(rewards), np.zeros(rewards))


def normalized_mean(moments: Moments, values: np.ndarray) -> tuple[np.ndarray, Moments]:
    """Combine several rewards on one scale, each standardised by its running mean and variance, in order.

    r_t = (1/R) Σ_i (r_ti − m_ti)/√v_ti with m_t = m_{t−1} + (r_t − m_{t−1})/t and v_t = v_{t−1} + ((r_t − m_t)² −
    v_{t−1})/t; a summand is 0 where v vanishes, and never beyond ±√t. At t = 1: (1/R) Σ_i clip(r_1i, 0, 1).

    Args:
        moments: of the rewards before.
        values: the rewards of one round, (b, R), b ≥ 1.

    Returns:
        The combined rewards, (b,), and the moments after them.

    Source: Orekondy et al. 2019, §4.1, in the form of the Adversarial Robustness Toolbox.
    """
    number = moments.answered + np.arange(1, len(values) + 1)[:, None]
    totals = moments.total + np.cumsum(values, axis=0)
    deviations = values - totals / number
    squares = moments.squares + np.cumsum(deviations**2, axis=0)
    spread = np.sqrt(squares / number)
    varies = spread > _SPREAD
    combined = (varies * deviations / np.where(varies, spread, 1)).mean(axis=1)
    if moments.answered == 0:
        combined[0] = np.clip(values[0], 0, 1).mean()
    return combined, Moments(int(number[-1, 0]), totals[-1], squares[-1])
