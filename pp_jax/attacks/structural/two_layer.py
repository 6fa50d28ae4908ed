"""Two-layer ReLU networks as an attacker finds them: kinks of known position, and an affine rest.

f(x) = V relu(A x + b) + c = Σ_i ½ v_i |a_i·x + b_i| + S x + s        as relu(z) = ½ (z + |z|)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

# A coefficient that says on which side of its hyperplane a unit is active is 1 or −1; so far off is neither.
_SIGN_SLACK = 0.1


class TwoLayer(NamedTuple):
    """The network f(x) = V relu(A x + b) + c, float64 on the host.

    Attributes:
        weights: A, (h, d).
        offsets: b, (h,).
        output: V, (K, h).
        bias: c, (K,).
    """

    weights: np.ndarray
    offsets: np.ndarray
    output: np.ndarray
    bias: np.ndarray

    def __call__(self, inputs: Any) -> np.ndarray:
        """Outputs (B, K) for inputs (B, …) of d numbers each."""
        flat = np.asarray(inputs, np.float64).reshape(len(inputs), -1)
        return np.maximum(flat @ self.weights.T + self.offsets, 0) @ self.output.T + self.bias

    def params(self) -> dict[str, Any]:
        """The same as parameters of `models.mlp(K, hidden=(h,))` without normalisation."""
        first = {"kernel": self.weights.T, "bias": self.offsets}
        return {"params": {"fc1": first, "fc": {"kernel": self.output.T, "bias": self.bias}}}


def of_mlp(variables: Mapping[str, Any]) -> TwoLayer:
    """The parameters of `models.mlp(K, hidden=(h,))` without normalisation, for a defender who compares.

    Raises:
        ValueError: for another network's.
    """
    layers = variables["params"]
    if set(layers) != {"fc1", "fc"}:
        raise ValueError(f"layers are {sorted(layers)}: must be fc and fc1, those of models.mlp(K, hidden=(h,))")
    read = [np.asarray(layers[name][part], np.float64) for name in ("fc1", "fc") for part in ("kernel", "bias")]
    return TwoLayer(read[0].T, read[1], read[2].T, read[3])


class Units(NamedTuple):
    """Hidden units without their side: unit i is ½ v_i |n_i·x + o_i|.

    Attributes:
        normals: n, (m, d), of length 1.
        offsets: o, (m,).
        jumps: v, (m, K): by how much the slope along n changes at the hyperplane.
    """

    normals: np.ndarray
    offsets: np.ndarray
    jumps: np.ndarray

    @classmethod
    def none(cls, inputs: int, outputs: int) -> "Units":
        """No unit."""
        return cls(np.empty((0, inputs)), np.empty(0), np.empty((0, outputs)))

    def heights(self, flat: np.ndarray) -> np.ndarray:
        """n_i·x + o_i, (B, m)."""
        return flat @ self.normals.T + self.offsets

    def values(self, flat: np.ndarray) -> np.ndarray:
        """Σ_i ½ v_i |n_i·x + o_i|, (B, K)."""
        return 0.5 * np.abs(self.heights(flat)) @ self.jumps

    def gradients(self, flat: np.ndarray) -> np.ndarray:
        """Its gradients, (B, K, d)."""
        sides = np.sign(self.heights(flat))
        return 0.5 * np.einsum("bm,mk,md->bkd", sides, self.jumps, self.normals, optimize=True)

    def added(self, normal: np.ndarray, offset: float, jump: np.ndarray) -> "Units":
        """With one more."""
        return Units(np.vstack([self.normals, normal]), np.append(self.offsets, offset), np.vstack([self.jumps, jump]))


def factored(jump: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The parts of a jump of the gradient, (K, d), that is met in a direction: v nᵀ with n along the direction.

    Returns:
        n, v, and what is not of rank 1, as a share.
    """
    left, sizes, right = np.linalg.svd(jump, full_matrices=False)
    sign = 1.0 if right[0] @ direction >= 0 else -1.0
    return sign * right[0], sign * left[:, 0] * sizes[0], float(sizes[1] / sizes[0]) if len(sizes) > 1 else 0.0


def assembled(units: Units, slope: np.ndarray, constant: np.ndarray, *, tolerance: float) -> tuple[TwoLayer, int]:
    """The network of units and an affine rest S x + s.

    A unit with the active side σ_i = ±1 contributes ½ σ_i v_i n_iᵀ to S: K·d equations for the m sides, solved by least
    squares, or where they are fewer than the sides by a linear programme, min ‖σ‖_∞, whose solution is the only one of
    ±1 if there are more than about m/2 of them (Mangasarian, Recht 2011). What is left of S, of rank r, comes from
    units that are active everywhere, or from sides that remain open; it takes 2r units more, relu(u·x) − relu(−u·x).

    Args:
        units: m of them.
        slope: S, (K, d).
        constant: s, (K,).
        tolerance: what counts as zero in S, relative to its largest entry.

    Returns:
        The network, and how many of its units stand for the affine rest: 0 where all parameters are identified.
    """
    parts = 0.5 * units.jumps[:, :, None] * units.normals[:, None, :]
    sides, decided = _sides(parts.reshape(len(parts), slope.size).T, slope.ravel())
    rest = slope - np.tensordot(sides, parts, axes=1)
    constant = constant - 0.5 * (sides * units.offsets) @ units.jumps
    largest = max(float(np.abs(slope).max(initial=0)), float(np.abs(parts).max(initial=0)), 1e-300)
    if decided and float(np.abs(rest).max(initial=0)) <= tolerance * largest:
        rest = np.zeros_like(slope)
    left, sizes, right = np.linalg.svd(rest, full_matrices=False)
    rank = int((sizes > tolerance * largest).sum())
    extra, weight = right[:rank], left[:, :rank] * sizes[:rank]
    network = TwoLayer(
        np.vstack([sides[:, None] * units.normals, extra, -extra]),
        np.concatenate([sides * units.offsets, np.zeros(2 * rank)]),
        np.hstack([units.jumps.T, weight, -weight]),
        constant,
    )
    return network, 2 * rank


def _sides(parts: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, bool]:
    """σ of parts (E, m) and slope (E,), each ±1, and whether the equations decide all of them."""
    if not parts.size:
        return np.ones(parts.shape[1]), True
    found, _, rank, _ = np.linalg.lstsq(parts, slope, rcond=1e-9)
    if rank < parts.shape[1]:
        found = _least_largest(parts, slope, found)
    return np.where(found < 0, -1.0, 1.0), bool(np.all(np.abs(np.abs(found) - 1) < _SIGN_SLACK))


def _least_largest(parts: np.ndarray, slope: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """σ with parts σ = slope whose largest |σ_i| is least."""
    from scipy.optimize import linprog

    left, sizes, right = np.linalg.svd(parts, full_matrices=False)
    kept = sizes > 1e-9 * sizes[0]
    equations = np.hstack([right[kept], np.zeros((kept.sum(), 1))])
    values = (left.T @ slope)[kept] / sizes[kept]
    each, one = np.eye(parts.shape[1]), np.ones((parts.shape[1], 1))
    bounds = np.vstack([np.hstack([each, -one]), np.hstack([-each, -one])])
    found = linprog(
        np.append(np.zeros(parts.shape[1]), 1.0),
        A_ub=bounds,
        b_ub=np.zeros(len(bounds)),
        A_eq=equations,
        b_eq=values,
        bounds=(None, None),
    )
    return found.x[:-1] if found.success else otherwise


def parameter_difference(found: TwoLayer, true: TwoLayer, *, posteriors: bool = False) -> float:
    """Largest difference of parameters up to the symmetries: the order of hidden units, and their positive scale.

    Both are brought to rows of A of length 1, and units are paired by the nearest (A, b).

    Args:
        found: a network of as many units as `true`, or more: those without a partner are not compared.
        true: the other; units with weights or outputs of zero are left out.
        posteriors: compare V and c up to what softmax ignores, a shift of all classes alike.

    Returns:
        The difference; infinity where `found` has fewer units.
    """
    from scipy.optimize import linear_sum_assignment

    one, two = (_normalised(network, posteriors) for network in (found, true))
    if len(one.weights) < len(two.weights):
        return float("inf")
    rows = [np.hstack([network.weights, network.offsets[:, None]]) for network in (one, two)]
    ours, theirs = linear_sum_assignment(np.abs(rows[0][:, None] - rows[1][None]).max(-1))
    differences = (
        rows[0][ours] - rows[1][theirs],
        one.output[:, ours] - two.output[:, theirs],
        one.bias - two.bias,
    )
    return max(float(np.abs(difference).max(initial=0)) for difference in differences)


def _normalised(network: TwoLayer, posteriors: bool) -> TwoLayer:
    """Rows of A of length 1, dead units left out, and where only posteriors count, outputs centred over the classes."""
    output, bias = network.output, network.bias
    if posteriors:
        output, bias = output - output.mean(0), bias - bias.mean()
    scale = np.linalg.norm(network.weights, axis=1)
    kept = (scale > 0) & (np.abs(output).max(0) > 0)
    scale = scale[kept]
    return TwoLayer(
        network.weights[kept] / scale[:, None], network.offsets[kept] / scale, output[:, kept] * scale, bias
    )


def switching_units(network: TwoLayer, low: float, high: float) -> np.ndarray:
    """Which units are active at some inputs of the box [low, high]^d and not at others, (h,); no other can be found."""
    middle = network.weights.sum(1) * (low + high) / 2 + network.offsets
    return np.abs(middle) < np.abs(network.weights).sum(1) * (high - low) / 2
