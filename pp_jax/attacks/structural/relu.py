"""Functionally equivalent extraction of a two-layer ReLU network from its responses alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax._checks import check_count
from pp_jax.attacks.structural.domain import Box, Line, Questions, along_lines, generator
from pp_jax.attacks.structural.kinks import NOT_PIECEWISE, kinks
from pp_jax.attacks.structural.two_layer import TwoLayer, Units, assembled, factored

_PROBES = 8
_CHECKED = 64
# Of the largest response, what counts as zero: in a second difference, along a line, and of the network in the end.
_SMOOTH, _LINEAR, _EXACT = 1e-8, 1e-7, 1e-6
# A kink nearer to a hyperplane that is known is that one's.
_KNOWN = 1e-5
# So many hyperplanes that are none, and more than those found: the network has another form.
_FALSE = 4


class StolenTwoLayer(NamedTuple):
    """What an extraction ends with.

    Attributes:
        network: as the victim's, up to the order of hidden units and their positive scale.
        units: hidden units that were found; others never change sides in the box, or have no effect.
        extra: units of `network` behind these that stand for an affine rest: of units that are active everywhere in
            the box, or of sides that too few outputs leave open; 0 where all parameters are identified.
        queries: how many were spent.
        error: largest difference of outputs at fresh inputs (log-posteriors centred over the classes, or logits).
    """

    network: TwoLayer
    units: int
    extra: int
    queries: int
    error: float


def extract_relu(
    key: jax.Array,
    api: Callable[[Any], Any],
    shape: tuple[int, ...],
    *,
    budget: int,
    logits: bool = False,
    low: float = 0.0,
    high: float = 1.0,
    points: Any = None,
    patience: int = 6,
    max_lines: int = 400,
) -> StolenTwoLayer:
    """Steal f(x) = V relu(A x + b) + c exactly, from float64 posteriors or logits.

    Along a line f bends where a unit changes sides. At such a point x*, the gradients of both sides, each from d + 1
    queries, differ by v_i a_iᵀ: a matrix of rank 1 that gives row and output weights of the unit up to a scale, and
    b_i = −a_i·x*. What is known is taken off, so that further lines cost few queries unless they meet another unit.
    What remains is affine and is fitted by least squares; it also says on which side each unit is active (`assembled`).
    From posteriors V and c are known up to a shift of all classes, which no posterior shows.

    The extraction is exact inside of the box; units that never change sides there are part of the affine rest.
    Queries: about 2 (d + 1) for each unit and for the affine rest, and O(h log h) for the lines.

    The critical points and their second differences are those of the paper, which takes sides one unit at a time by a
    system of d ≥ h equations; here all K outputs are used at once, and h may exceed d.

    Args:
        key: randomness of the lines.
        api: inputs (B, *shape), float64 in [low, high], to responses (B, K) in float64, K ≥ 2 (logits: K ≥ 1).
        shape: of an input.
        budget: the largest number of queries.
        logits: whether the API responds logits; else posteriors, of which the logarithm is taken.
        low: the least value that the API accepts.
        high: the largest.
        points: inputs of the attacker's own, (N, *shape), through which some lines are laid.
        patience: so many lines in a row without a new unit end the search, unless the result is not yet exact.
        max_lines: at most so many lines.

    Returns:
        The network, and what it cost.

    Raises:
        ValueError: in one line: for numbers out of range, before any query; after 24 queries for responses that are no
            float64 posteriors or logits, hard labels, or not piecewise linear (another activation, a defense); where
            hyperplanes bend (a deeper network), where the budget ends, or where the result is not exact after all
            lines.

    Source: Jagielski et al., "High accuracy and high fidelity extraction of neural networks", USENIX Security 2020;
    Carlini, Jagielski, Mironov, "Cryptanalytic extraction of neural network models", CRYPTO 2020.
    """
    check_count("patience", patience, low=1)
    check_count("max_lines", max_lines, low=1)
    box, rng = Box(tuple(shape), low, high, points), generator(key)
    ask = Questions(api, box, budget, 3 * _PROBES + 2 * (box.size + 1) + _CHECKED)
    search = _Search(lambda flat: _outputs(ask(flat), len(flat), logits), box, rng, ask)
    search.probe()
    return along_lines(search, patience=patience, max_lines=max_lines, again=2)


class _Search:
    """What is known of the victim so far."""

    def __init__(self, f: Callable[[np.ndarray], np.ndarray], box: Box, rng: np.random.Generator, ask: Questions):
        self.f, self.box, self.rng, self.ask = f, box, rng, ask
        self.units = Units.none(0, 0)
        self.scale, self.refused = 1.0, 0
        self._fitted: tuple[np.ndarray, np.ndarray] | None = None

    def probe(self) -> None:
        """Ask for three points on each of a few short segments.

        Raises:
            ValueError: if the responses do not change, or not linearly.
        """
        lines = [self.box.line(self.rng) for _ in range(_PROBES)]
        steps = np.array([0.5, 0.5005, 0.501])
        found = self.f(np.concatenate([line.at(steps * line.length) for line in lines]))
        values = found.reshape(_PROBES, 3, -1)
        self.units = Units.none(self.box.size, values.shape[-1])
        self.scale = max(float(np.abs(values).max()), 1e-3)
        first, second = values[:, 2] - values[:, 0], values[:, 2] + values[:, 0] - 2 * values[:, 1]
        if 2 * np.any(first, axis=1).sum() <= _PROBES:
            raise ValueError("the responses do not change with the input: must be exact, not rounded, no hard labels")
        bent = np.abs(second).max(1) > _SMOOTH * self.scale
        if 2 * bent.sum() > _PROBES:
            raise ValueError(NOT_PIECEWISE)

    def rest(self, flat: np.ndarray) -> np.ndarray:
        """The victim without the units that are known."""
        return self.f(flat) - self.units.values(flat)

    def follow(self, line: Line) -> bool:
        """Search a line; whether there was another unit.

        Raises:
            ValueError: where too many kinks are no hyperplane of a hidden unit.
        """
        found = kinks(lambda t: self.rest(line.at(t)), line.length, tolerance=_LINEAR * self.scale)
        before = len(self.units.offsets)
        for place, room in zip(found.places, found.room, strict=True):
            point = line.at(np.array([place]))[0]
            if np.abs(self.units.heights(point[None])).min(initial=np.inf) < _KNOWN:
                continue
            unit = self._unit(point, line, min(room / 2, 1e-3 * line.length))
            if unit is None:
                self.refused += 1
            else:
                self.units = self.units.added(*unit)
        if self.refused >= _FALSE and self.refused > len(self.units.offsets):
            raise ValueError(
                f"{self.refused} kinks of the responses lie on no hyperplane of constant weight, "
                f"{len(self.units.offsets)} do: must be a network of two layers with ReLU, not a deeper one"
            )
        return len(self.units.offsets) > before

    def _unit(self, point: np.ndarray, line: Line, room: float) -> Any:
        """Normal, offset and jump of the unit that changes sides at a point; None if it is none."""
        step = room / (10 * np.sqrt(self.box.size))
        sides = [self._gradient(point + side * room * line.direction, step) for side in (1, -1)]
        normal, jump, share = factored(sides[0] - sides[1], line.direction)
        if share > 1e-4:
            return None
        offset = -float(normal @ point)
        # The same jump must be where another line meets the hyperplane.
        around = self.box.across(self.rng, line, normal, offset)
        heights = np.abs(around @ normal + offset)
        rest = self.rest(around) - 0.5 * heights[:, None] * jump
        weights = np.array([heights[2], -heights[0] - heights[2], heights[0]])
        off = np.abs(weights @ rest).max()
        kinked = 0.5 * np.abs(jump).max() * abs(weights @ heights)
        return (normal, offset, jump) if off <= 1e-3 * kinked else None

    def _gradient(self, point: np.ndarray, step: float) -> np.ndarray:
        """The gradient (K, d) of what is not known, by differences towards the inside of the box."""
        point = self.box.inside(point[None])[0]
        steps = np.where(point + step > self.box.high, -step, step)
        values = self.rest(np.vstack([point, point + np.diag(steps)]))
        return ((values[1:] - values[0]) / steps[:, None]).T

    def fit(self) -> tuple[StolenTwoLayer | None, np.ndarray]:
        """The result, None while it is not exact at fresh inputs, and where it is worst."""
        if self._fitted is None:
            flat = self.box.draw(self.rng, 2 * (self.box.size + 1) + _CHECKED)
            self._fitted = flat, self.f(flat)
        flat, values = self._fitted
        rows = np.hstack([flat, np.ones((len(flat), 1))])
        rest = values - self.units.values(flat)
        affine = np.linalg.lstsq(rows[_CHECKED:], rest[_CHECKED:], rcond=None)[0].T
        off = np.abs(rest - rows @ affine.T).max(1)
        network, extra = assembled(self.units, affine[:, :-1], affine[:, -1], tolerance=1e-4)
        error = float(np.abs(network(flat[:_CHECKED]) - values[:_CHECKED]).max())
        found = StolenTwoLayer(network, len(self.units.offsets), extra, self.ask.spent, error)
        return (found if error <= _EXACT * self.scale else None), flat[int(off.argmax())]


def _outputs(responses: Any, count: int, logits: bool) -> np.ndarray:
    """Responses as outputs of the network, (B, K) in float64: log-posteriors are centred over the classes.

    Raises:
        ValueError: for what is no logit or posterior in float64.
    """
    found = np.asarray(responses)
    if found.ndim != 2 or len(found) != count or found.shape[1] < (1 if logits else 2):
        raise ValueError(f"the API responds {found.shape} to {count} inputs: must be ({count}, K), no labels")
    if found.dtype != np.float64:
        raise ValueError(f"the API responds in {found.dtype}: must be float64, write with jax.enable_x64(True): …")
    if not np.isfinite(found).all():
        raise ValueError("the API responds NaN or infinity: must be finite")
    if logits:
        return found
    if (found <= 0).any():
        raise ValueError(
            f"{int((found <= 0).any(1).sum())} of {count} responses have zeros: must be exact posteriors, "
            "no hard labels, not rounded or cut off (logits=True for logits)"
        )
    logs = np.log(found)
    return logs - logs.mean(1, keepdims=True)
