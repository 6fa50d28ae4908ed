"""Reconstruction of a two-layer ReLU network from explanations: its outputs with their input gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax._checks import check_count
from pp_jax.attacks.structural.domain import Box, Line, Questions, along_lines, generator
from pp_jax.attacks.structural.relu import StolenTwoLayer
from pp_jax.attacks.structural.two_layer import Units, assembled, factored
from pp_jax.types import LogitsFn, Params

_CHECKED = 16
# Of the largest gradient or output, what counts as zero, by the precision of the API's numbers.
_ZERO = {"float32": 1e-4, "float64": 1e-8}
# Of an interval's length, how far from a kink both sides are asked.
_BESIDE = 1e-3
# A line with so many intervals to be halved belongs to no piecewise linear network that could be reconstructed.
_MOST = 4096

Explain = Callable[[Any], tuple[Any, Any]]
"""Inputs (B, *shape) to outputs (B, K) and their input gradients (B, K, *shape)."""


def explainer(logits_fn: LogitsFn, params: Params) -> Explain:
    """An API that explains its logits by their input gradients, the defender's side of `reconstruct_from_gradients`.

    Args:
        logits_fn: the victim.
        params: its parameters.

    Returns:
        Images (B, H, W, C) to logits (B, K) and gradients (B, K, H, W, C).
    """

    def one(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        return logits_fn(params, image), jax.jacrev(logits_fn, argnums=1)(params, image)

    return jax.jit(jax.vmap(one))


class _Seen(NamedTuple):
    """What explanations say of some places on a line, without the units that are known.

    Attributes:
        places: t, (B,).
        values: (B, K).
        gradients: (B, K, d).
    """

    places: np.ndarray
    values: np.ndarray
    gradients: np.ndarray

    def some(self, which: Any) -> "_Seen":
        return _Seen(*(part[which] for part in self))


def reconstruct_from_gradients(
    key: jax.Array,
    explain: Explain,
    shape: tuple[int, ...],
    *,
    budget: int,
    low: float = 0.0,
    high: float = 1.0,
    points: Any = None,
    patience: int = 3,
    max_lines: int = 200,
) -> StolenTwoLayer:
    """Steal f(x) = V relu(A x + b) + c from outputs and input gradients, in O(h log h) queries, whatever the dimension.

    Between two points of a line with one unit's hyperplane between them, the gradients differ by v_i a_iᵀ exactly: row
    and output weights of that unit up to a scale. An interval whose ends have the same gradient has no kink; in any
    other, the tangents of its ends meet at t. It holds one kink alone if the gradients just before and behind t are
    those of the ends, and is halved if not. The offset is b_i = −a_i·x(t). One more gradient gives the affine rest, and
    with it the side on which each unit is active (`relu.extract_relu` says how, and what is found within a box).

    The paper's networks have one output, no biases, and linearly independent rows a_i, by which it tells sides from
    gradients alone; here the outputs, which come with an explanation, give the biases, and rows may depend.

    Args:
        key: randomness of the lines.
        explain: inputs (B, *shape) in [low, high] to outputs (B, K) and their input gradients (B, K, *shape), of logits
            or of log-posteriors centred over the classes, float32 or float64.
        shape: of an input.
        budget: the largest number of queries; an input with its explanation is one.
        low: the least value that the API accepts.
        high: the largest.
        points: inputs of the attacker's own, (N, *shape), through which some lines are laid.
        patience: so many lines in a row without a new unit end the search, unless the result is not yet exact.
        max_lines: at most so many lines.

    Returns:
        The network, and what it cost.

    Raises:
        ValueError: in one line: for numbers out of range, before any query; after one query for an API that gives no
            gradients, or none that fit; for gradients that are not constant in pieces (another activation, a defense),
            jumps of rank above 1 or hyperplanes that bend (a deeper network), where the budget ends, or where the
            result is not exact after all lines.

    Source: Milli, Schmidt, Dragan, Hardt, "Model reconstruction from model explanations", FAT* 2019.
    """
    check_count("patience", patience, low=1)
    check_count("max_lines", max_lines, low=1)
    box, rng = Box(tuple(shape), low, high, points), generator(key)
    ask = Questions(explain, box, budget, _CHECKED + 5)
    search = _Search(ask, box, rng)
    return along_lines(search, patience=patience, max_lines=max_lines, again=1)


class _Search:
    """What is known of the victim so far."""

    def __init__(self, ask: Questions, box: Box, rng: np.random.Generator) -> None:
        self.ask, self.box, self.rng = ask, box, rng
        values, gradients = explained(ask(box.draw(rng, 1)), 1, box.shape)
        self.units = Units.none(box.size, values.shape[1])
        zero = _ZERO["float64" if gradients.dtype == np.float64 else "float32"]
        self.refused, self.zero = 0, zero * np.array([np.abs(values).max(), np.abs(gradients).max()])
        if not self.zero[1]:
            raise ValueError("the gradients are zero: must be those of logits or log-posteriors, not of labels")

    def see(self, flat: np.ndarray, places: np.ndarray) -> _Seen:
        """Ask, and take off what is known."""
        values, gradients = explained(self.ask(flat), len(flat), self.box.shape)
        return _Seen(places, values - self.units.values(flat), gradients - self.units.gradients(flat))

    def follow(self, line: Line) -> bool:
        """Search a line; whether there was another unit.

        Raises:
            ValueError: where the gradient changes almost everywhere, or hyperplanes bend.
        """
        before = len(self.units.offsets)
        ends = self.see(line.at(np.array([0.0, line.length])), np.array([0.0, line.length]))
        left, right = ends.some([0]), ends.some([1])
        found: list[tuple[np.ndarray, float]] = []
        while len(left.places):
            change = right.gradients - left.gradients
            other = np.abs(change).max((1, 2)) > self.zero[1]
            other &= right.places - left.places > 1e-9 * line.length
            left, right, change = left.some(other), right.some(other), change[other]
            if not other.any():
                break
            meeting, inner = _meeting(left, right, change @ line.direction, line.direction)
            width = right.places - left.places
            aside = _BESIDE * np.minimum(meeting - left.places, right.places - meeting)
            asked = np.concatenate([meeting - aside, meeting + aside])
            seen = self.see(line.at(asked), asked)
            near = seen.some(slice(len(width))), seen.some(slice(len(width), None))
            single = inner
            for side, end in zip(near, (left, right), strict=True):
                single = single & (np.abs(side.gradients - end.gradients).max((1, 2)) <= self.zero[1])
            found += zip(change[single], meeting[single], strict=True)
            left, right = _split(*(seen.some(~single) for seen in (left, right, *near)))
            if len(left.places) > _MOST:
                raise ValueError(
                    "the input gradients are not constant in pieces: must be exact, of a network of ReLU units"
                )
        for jump, place in found:
            self._add(line, jump, place)
        if self.refused > 3 and self.refused > len(self.units.offsets):
            raise ValueError(
                f"{self.refused} jumps of the gradient lie on no hyperplane of constant weight, "
                f"{len(self.units.offsets)} do: must be a network of two layers with ReLU, not a deeper one"
            )
        return len(self.units.offsets) > before

    def _add(self, line: Line, jump: np.ndarray, place: float) -> None:
        """Add the unit of a jump, if it is one: its jump must be where another line meets its hyperplane."""
        normal, weights, share = factored(jump, line.direction)
        offset = -float(normal @ line.at(np.array([place]))[0])
        if share < 1e-2:
            around = self.box.across(self.rng, line, normal, offset)[[0, 2]]
            first, second = self.see(around, np.zeros(2)).gradients
            side = np.sign((around[1] - around[0]) @ normal)
            if np.abs(second - first - side * np.outer(weights, normal)).max() <= 1e-2 * np.abs(jump).max():
                self.units = self.units.added(normal, offset, weights)
                return
        self.refused += 1

    def fit(self) -> tuple[StolenTwoLayer | None, np.ndarray]:
        """The result, None while it is not exact at fresh inputs, and where it is worst."""
        flat = self.box.draw(self.rng, _CHECKED)
        rest = self.see(flat, np.zeros(_CHECKED))
        slope = np.median(rest.gradients, axis=0)
        constant = np.median(rest.values - flat @ slope.T, axis=0)
        off = np.abs(rest.values - flat @ slope.T - constant).max(1)
        network, extra = assembled(self.units, slope, constant, tolerance=100 * _ZERO["float64"])
        error = float(np.abs(network(flat) - rest.values - self.units.values(flat)).max())
        found = StolenTwoLayer(network, len(self.units.offsets), extra, self.ask.spent, error)
        return (found if error <= 100 * self.zero[0] else None), flat[int(off.argmax())]


def _meeting(left: _Seen, right: _Seen, change: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the tangents of both ends meet, and whether that is between them; the middle where it is not."""
    width = right.places - left.places
    missing = right.values - left.values - (left.gradients @ direction) * width[:, None]
    beyond = (change * missing).sum(1) / np.maximum((change**2).sum(1), 1e-300)
    inner = (beyond > 0) & (beyond < width)
    return right.places - np.where(inner, beyond, width / 2), inner


def _split(left: _Seen, right: _Seen, before: _Seen, behind: _Seen) -> tuple[_Seen, _Seen]:
    """Both parts of intervals, apart from what lies between two places in them."""
    parts = ((left, before), (before, behind), (behind, right))
    ends = [_Seen(*(np.concatenate(each) for each in zip(*(p[i] for p in parts), strict=True))) for i in (0, 1)]
    return ends[0], ends[1]


def explained(response: Any, count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (B, K) and gradients (B, K, d) of an explaining API.

    Raises:
        ValueError: for what is no pair of them.
    """
    if not isinstance(response, tuple) or len(response) != 2:
        raise ValueError("the API must respond a pair, outputs (B, K) and input gradients (B, K, *shape), not outputs")
    values, gradients = (np.asarray(part) for part in response)
    if values.ndim != 2 or gradients.shape != (count, *values.shape[1:], *shape) or len(values) != count:
        raise ValueError(
            f"the API responds {values.shape} and gradients {gradients.shape}: must be ({count}, K) and "
            f"({count}, K, {', '.join(map(str, shape))})"
        )
    if not (np.isfinite(values).all() and np.isfinite(gradients).all()):
        raise ValueError("outputs and gradients must be finite, not NaN or infinity")
    return values, gradients.reshape(*values.shape, -1)
