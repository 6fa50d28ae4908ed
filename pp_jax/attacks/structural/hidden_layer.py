"""Networks with one hidden layer from their posteriors: a system of equations that is solved by optimisation."""

import dataclasses
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np

from pp_jax._checks import check_count
from pp_jax.attacks.structural.asking import asking, generator
from pp_jax.attacks.structural.least_squares import Equations, levenberg_marquardt
from pp_jax.attacks.structural.linear import checked_pairs, log_probs, with_ones
from pp_jax.serving.blackbox import API

Activation = Literal["tanh", "logistic", "relu"]


@dataclasses.dataclass(frozen=True)
class HiddenLayer:
    """z = W₂ s(W₁x + b₁) + b₂ with posterior softmax(z); the last class is at zero.

    Attributes:
        first: [W₁ b₁], (h, d + 1).
        second: [W₂ b₂], (K, h + 1), its last row zero.
        activation: s.
        residual: root mean square of what is left of the log-ratio equations, on the queries that were fitted or on
            those held out, whichever is larger; 0 where the network agrees with the victim on all of them.
    """

    first: np.ndarray
    second: np.ndarray
    activation: Activation
    residual: float

    def posteriors(self, features: Any) -> np.ndarray:
        """Return softmax(z), (n, K), for feature vectors (n, d)."""
        inner = _apply(self.activation, with_ones(np.asarray(features, np.float64)) @ self.first.T)[0]
        return np.exp(log_probs(with_ones(inner) @ self.second.T))


class StolenHiddenLayer(NamedTuple):
    """What the attack on a network with one hidden layer ends with.

    Attributes:
        model: the network.
        queries: what it cost.
    """

    model: HiddenLayer
    queries: int


def unknowns(features: int, hidden: int, classes: int) -> int:
    """Return h(d + 1) + K(h + 1), the parameters of a network with one hidden layer, as the paper counts them."""
    return hidden * (features + 1) + classes * (hidden + 1)


def solve_hidden_layer(
    key: jax.Array,
    api: API,
    *,
    features: int,
    hidden: int,
    classes: int,
    budget: int,
    activation: Activation = "tanh",
    restarts: int = 5,
    steps: int = 300,
    tolerance: float = 1e-9,
) -> StolenHiddenLayer:
    """Steal a network with one hidden layer: uniform queries, then `fit_hidden_layer` on the responses.

    Published: for k = h(d + 1) + K(h + 1) = 2225 unknowns (d = 105, h = 20, K = 5) 2225 queries give 98.68 % of the
    victim's labels on the test set and 97.23 on uniform inputs; 4450 give 99.89 and 99.82.

    Args:
        key: draws queries and starting points.
        api: images (B, 1, 1, d) in [0, 1] in, posteriors (B, K) out.
        features: d.
        hidden: h, which the attacker knows.
        classes: K.
        budget: queries.
        activation: s, which the attacker knows.
        restarts: starting points, at most.
        steps: of the optimiser from each.
        tolerance: a residual that ends the search.

    Returns:
        The best network and the number of queries.

    Raises:
        ValueError: for a budget too small to determine the parameters, or an API that says that it responds with
            labels; nothing is asked then.
        QueriesFailed: for an API that responds with labels, or with zeros.

    Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing machine learning models via prediction APIs", USENIX
        Security 2016, section 4.1.3 and table 4.
    """
    rng = generator(key)
    for name, value in (("features", features), ("hidden", hidden), ("classes", classes)):
        check_count(name, value, low=2 if name == "classes" else 1)
    check_count("the query budget", budget, low=1)
    _check_activation(activation)
    check_identifiable(budget, features, hidden, classes)
    rows = rng.random((budget, features))
    with asking(api, features, budget=budget, posteriors=True) as questions:
        answers = questions.posteriors(rows)
        if answers.shape[1] != classes:
            raise ValueError(f"the API responds with {answers.shape[1]} classes: write classes={answers.shape[1]}")
        model = fit_hidden_layer(
            jax.random.fold_in(key, 1),
            rows,
            answers,
            hidden=hidden,
            activation=activation,
            restarts=restarts,
            steps=steps,
            tolerance=tolerance,
        )
        return StolenHiddenLayer(model, questions.spent)


def fit_hidden_layer(
    key: jax.Array,
    features: Any,
    answers: Any,
    *,
    hidden: int,
    activation: Activation = "tanh",
    restarts: int = 5,
    steps: int = 300,
    tolerance: float = 1e-9,
) -> HiddenLayer:
    """The network with h hidden units that gives these responses, by Levenberg–Marquardt on log-ratios.

    min_θ Σ_n Σ_{k<K} (z_k(x_n; θ) − log y_nk/y_nK)²

    The minimum is zero, and reached only from some starting points; with relu other networks reach it too, whose kinks
    lie between the queries. So a tenth of the queries is held out where the rest still determines the parameters, and
    the best of several fits is returned, with its residual. Hidden units are determined up to their order, and to sign
    (tanh) or scale (relu).

    Args:
        key: draws the starting points.
        features: (n, d).
        answers: posteriors, (n, K), above zero.
        hidden: h.
        activation: s.
        restarts: starting points, at most.
        steps: of the optimiser from each.
        tolerance: a residual that ends the search.

    Returns:
        The best network.

    Raises:
        ValueError: for fewer equations than parameters, responses with zeros, an unknown activation.
    """
    rng = generator(key)
    check_count("restarts", restarts, low=1)
    _check_activation(activation)
    rows, probs = checked_pairs(features, answers)
    check_identifiable(len(rows), rows.shape[1], hidden, probs.shape[1])
    if zeros := int((probs <= 0).any(axis=1).sum()):
        raise ValueError(f"{zeros} of {len(probs)} responses hold a zero, which has no logarithm: leave them out")
    ratios = np.log(probs[:, :-1]) - np.log(probs[:, -1:])
    design = with_ones(rows)
    held = np.arange(len(rows)) % 10 == 9
    if not is_identifiable(int((~held).sum()), rows.shape[1], hidden, probs.shape[1]):
        held[:] = False
    equations = _equations(activation, design[~held], ratios[~held], hidden)
    others = _equations(activation, design[held], ratios[held], hidden)
    best: tuple[float, np.ndarray] | None = None
    for _ in range(restarts):
        first = rng.normal(size=(hidden, design.shape[1])) / np.sqrt(rows.var(axis=0).sum() + 1e-12)
        first[:, -1] = -first[:, :-1] @ rows.mean(axis=0) + 0.5 * first[:, -1]
        inner = with_ones(_apply(activation, design[~held] @ first.T)[0])
        second = np.linalg.lstsq(inner, ratios[~held], rcond=1e-6)[0].T
        start = np.concatenate([first.ravel(), second.ravel()])
        theta, _ = levenberg_marquardt(equations, start, steps=steps)
        residual = max(_size(equations(theta, False)[0]), _size(others(theta, False)[0]))
        if best is None or residual < best[0]:
            best = residual, theta
        if residual <= tolerance:
            break
    assert best is not None
    first, second = _parts(best[1], hidden, design.shape[1])
    return HiddenLayer(first, np.concatenate([second, np.zeros((1, hidden + 1))]), activation, best[0])


def is_identifiable(queries: int, features: int, hidden: int, classes: int) -> bool:
    """Return whether so many queries give as many equations as there are parameters."""
    return queries * (classes - 1) >= hidden * (features + 1) + (classes - 1) * (hidden + 1)


def check_identifiable(queries: int, features: int, hidden: int, classes: int) -> None:
    """Refuse fewer equations than parameters.

    Raises:
        ValueError: naming both.
    """
    if not is_identifiable(queries, features, hidden, classes):
        free = hidden * (features + 1) + (classes - 1) * (hidden + 1)
        raise ValueError(
            f"{queries} queries give {queries * (classes - 1)} equations for {free} parameters: must be at least "
            f"{-(-free // (classes - 1))} queries"
        )


def _equations(activation: Activation, design: np.ndarray, ratios: np.ndarray, hidden: int) -> Equations:
    """Residuals of the log-ratio equations; JᵀJ and Jᵀr where they are asked for, without J, which is large."""
    width, outputs = design.shape[1], ratios.shape[1]

    def equations(theta: np.ndarray, wants_normal: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        first, second = _parts(theta, hidden, width)
        inner, slope = _apply(activation, design @ first.T)
        inner = with_ones(inner)
        residual = inner @ second.T - ratios
        if not wants_normal:
            return residual.ravel(), None, None
        # ∂z_k/∂W₁[j] = W₂[k, j] s′(a_j) x, so that blocks of JᵀJ are weighted second moments of x.
        pull = slope[:, None, :] * second[None, :, :-1]
        both = np.einsum("nkj,nkl->njl", pull, pull)
        split = hidden * width
        normal = np.zeros((theta.size, theta.size))
        for unit in range(hidden):
            mine = slice(unit * width, (unit + 1) * width)
            rest = slice(unit * width, split)
            weighted = both[:, unit, unit:, None] * design[:, None, :]
            normal[mine, rest] = design.T @ weighted.reshape(len(design), -1)
            normal[rest, mine] = normal[mine, rest].T
        for output in range(outputs):
            place = slice(split + output * (hidden + 1), split + (output + 1) * (hidden + 1))
            weighted = (pull[:, output, :, None] * design[:, None, :]).reshape(len(design), -1)
            normal[:split, place] = weighted.T @ inner
            normal[place, :split] = normal[:split, place].T
            normal[place, place] = inner.T @ inner
        through = np.einsum("nk,nkj->nj", residual, pull)
        gradient = np.concatenate([(through.T @ design).ravel(), (residual.T @ inner).ravel()])
        return residual.ravel(), normal, gradient

    return equations


def _size(residual: np.ndarray) -> float:
    """Root mean square; 0 of nothing."""
    return float(np.sqrt(residual @ residual / max(1, residual.size)))


def _check_activation(activation: str) -> None:
    """Refuse an activation that is not known."""
    if activation not in get_args(Activation):
        raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, not {activation!r}")


def _parts(theta: np.ndarray, hidden: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """[W₁ b₁] and [W₂ b₂] without the last class."""
    return theta[: hidden * width].reshape(hidden, width), theta[hidden * width :].reshape(-1, hidden + 1)


def _apply(activation: Activation, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s(a) and s′(a)."""
    if activation == "tanh":
        out = np.tanh(values)
        return out, 1 - out**2
    if activation == "logistic":
        out = 0.5 * (1 + np.tanh(0.5 * values))
        return out, out * (1 - out)
    return np.maximum(values, 0), (values > 0).astype(np.float64)
