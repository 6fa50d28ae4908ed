"""EMMA (CVPR 2024): one matrix, learned once, that turns every posterior into a response that misleads a student."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count, check_random_key, check_range, seen
from pp_jax.defenses.cards import Card, Defender, NetworkSettings, Strength
from pp_jax.defenses.surrogates import Surrogate
from pp_jax.geometry import simplex
from pp_jax.geometry.posteriors import log_posterior
from pp_jax.gram.jacobian import select, trainable
from pp_jax.pytree import pytree
from pp_jax.results.identity import describe
from pp_jax.training.predicting import predict
from pp_jax.types import LogitsFn, Params, Query

DISTILLED = Surrogate("distilled", epochs=1)
"""The surrogate that T is learned against; published: stopped at epoch 20, on data of which an epoch is far smaller."""
IMAGES = 2560
"""Training images that T is learned from, at most."""
_LEAST = 1e-12
_PATIENCE = 3


@pytree
@dataclasses.dataclass(frozen=True)
class EMMA:
    """Multiply every posterior by one row-stochastic matrix: nothing is computed for a query but this product.

    ỹ = y ((1 − w) I + w T),   T = argmin λ CE(yT, argmax y) + (1 − λ) mean[−log(1.000001 − f_{w′(T)}(x)_{argmax y})]

    with w′(T) = w − η ∇_w CE(yT, f_w(x)) what one step on the responses makes of a surrogate (`learn`).

    The map is linear and the same for all queries, so that K independent responses to queries that the victim is sure
    of show T, and y = ỹ T⁻¹ (`recovery.Inversion`). An attacker that presumes the defense is taken to know T.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN; deterministic. It promises no distance and does not keep the
    argmax: a one-hot is answered with a row of T, the uniform posterior with T's mean row, tied, denormal and binary
    posteriors as others; w = 0 returns y.

    Attributes:
        transitions: T, rows on the simplex, (K, K); a leaf.
        weight: w ∈ [0, 1], not in the published method (there 1): what calibration turns; a leaf.

    Raises:
        ValueError: for a weight out of range or a matrix whose rows are not on the simplex; at the first call for
            another number of classes.

    Source: "Efficient model stealing defense with noise transition matrix", CVPR 2024.
    """

    transitions: jax.Array
    weight: jax.Array | float = 1.0

    card = Card("EMMA", Strength("weight", 0.0, 1.0), trained=True)
    random = False
    reads_image = False

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("weight", self.weight, low=0, high=1)
        _check_transitions(self.transitions)

    @property
    def matrix(self) -> jax.Array:
        """(1 − w) I + w T, (K, K)."""
        eye = jnp.eye(len(self.transitions), dtype=self.transitions.dtype)
        return (1 - self.weight) * eye + self.weight * self.transitions

    @classmethod
    def fitted(
        cls,
        defender: Defender,
        *,
        keep: float = 0.5,
        weight: jax.Array | float = 1.0,
        passes: int = 3,
        surrogate: Surrogate = DISTILLED,
    ) -> EMMA:
        """Learn T for a victim, from its posteriors of at most 2 560 of its training images.

        Args:
            defender: the victim and its data.
            keep: λ; 0.001 and 0.01 are published, with which this objective (as read in secondary sources) makes the
                top class of an MNIST victim the least likely one, and so costs the defender all its accuracy.
            weight: w.
            passes: over the images, at most.
            surrogate: the stand-in for the attacker's model.
        """
        network, params = surrogate.build(defender)
        images = defender.training_set()[0][:IMAGES]

        def make() -> tuple[Params, dict[str, Any]]:
            probs = predict(defender.network, defender.params, images)
            found = learn(defender.surrogate_key, network, params, images, probs, keep=keep, passes=passes)
            return {"transitions": found}, {}

        settings = {
            "keep": keep, "passes": passes, "of": describe(surrogate), "network": describe(network),
            "key": describe(defender.surrogate_key),
        }  # fmt: skip
        like = {"transitions": jax.ShapeDtypeStruct((defender.classes, defender.classes), jnp.float32)}
        if defender.rehearsal:
            return cls(jnp.eye(defender.classes), weight)
        return cls(jnp.asarray(defender.keep(NetworkSettings("emma", settings), like, make)["transitions"]), weight)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        del query
        probs = simplex.working(probs)
        if self.transitions.shape[-1] != len(probs):
            raise ValueError(f"transitions are of {self.transitions.shape[-1]} classes, the posterior has {len(probs)}")
        return simplex.working(probs @ self.matrix.astype(probs.dtype))


def learn(
    key: jax.Array,
    network: LogitsFn,
    params: Params,
    images: Any,
    probs: Any,
    *,
    keep: float = 0.5,
    step: float = 0.1,
    rate: float = 0.3,
    passes: int = 3,
    batch_size: int = 256,
    tolerance: float = 1e-2,
) -> jax.Array:
    """Learn the matrix against a surrogate that takes one step on its responses.

    T ← rownormalise(max(T − rate · ∇_T objective, 1e-12)), from T = I, until a pass changes its entries by less than
    `tolerance` on average, or its trace has not fallen for three passes.

    Args:
        key: of the order of images.
        network: the surrogate, `network(params, image) -> (K,)`.
        params: its parameters.
        images: transfer data, (N, H, W, C).
        probs: the victim's posteriors of them, (N, K).
        keep: λ ∈ [0, 1], the weight of the defender's own accuracy.
        step: η, of the surrogate; not published (assumed: an attacker's learning rate).
        rate: of T (published: 0.3).
        passes: over the images, at most; at least 1.
        batch_size: published: 256.
        tolerance: published: 0.01 for CIFAR-10, 1e-4 for more classes.

    Returns:
        T, (K, K).

    Raises:
        ValueError: for a number out of range, or as many images as there are not posteriors.
    """
    check_random_key(key)
    check_range("keep", keep, low=0, high=1)
    check_count("passes", passes, low=1)
    if len(images) != len(probs) or len(images) == 0:
        raise ValueError(f"images and probs must be as many, at least 1: {len(images)} and {len(probs)}")
    found, lowest, since = jnp.eye(np.shape(probs)[1]), np.inf, 0
    size = min(batch_size, len(images))
    for number in range(passes):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, number), len(images)))
        before = found
        for first in range(0, len(order) - size + 1, size):
            rows = order[first : first + size]
            found = _updated(found, params, images[rows], probs[rows], keep, step, rate, network=network)
        trace = float(jnp.trace(found))
        since = 0 if trace < lowest else since + 1
        lowest = min(lowest, trace)
        if float(jnp.mean(jnp.abs(found - before))) < tolerance or since >= _PATIENCE:
            break
    return found


def objective(
    transitions: jax.Array,
    params: Params,
    images: jax.Array,
    probs: jax.Array,
    keep: jax.Array | float,
    step: jax.Array | float,
    *,
    network: LogitsFn,
) -> jax.Array:
    """λ CE(yT, argmax y) + (1 − λ) mean[−log(1.000001 − f_{w′}(x)_{argmax y})] of a batch; arguments as in `learn`."""
    leaves, restore = select(params, trainable)
    targets = probs @ transitions

    def logs(chosen: list[jax.Array]) -> jax.Array:
        return jax.vmap(lambda image: log_posterior(network, restore(chosen), image))(images)

    gradient = jax.grad(lambda chosen: -jnp.mean(jnp.sum(targets * logs(chosen), axis=1)))(leaves)
    moved = [leaf - step * slope for leaf, slope in zip(leaves, gradient, strict=True)]
    top = jnp.argmax(probs, axis=1)[:, None]
    learned = jnp.exp(jnp.take_along_axis(logs(moved), top, axis=1))
    kept = -jnp.mean(jnp.log(jnp.maximum(jnp.take_along_axis(targets, top, axis=1), _LEAST)))
    return keep * kept - (1 - keep) * jnp.mean(jnp.log(1.000001 - learned))


@functools.partial(jax.jit, static_argnames="network")
def _updated(
    transitions: jax.Array, params: Params, images: jax.Array, probs: jax.Array, keep: Any, step: Any, rate: Any,
    *, network: LogitsFn,
) -> jax.Array:  # fmt: skip
    slope = jax.grad(objective)(transitions, params, images, probs, keep, step, network=network)
    moved = jnp.maximum(transitions - rate * slope, _LEAST)
    return moved / jnp.sum(moved, axis=1, keepdims=True)


def _check_transitions(transitions: Any) -> None:
    """Refuse what is no row-stochastic square matrix; one that is being traced passes."""
    rows = seen(transitions)
    if rows is None:
        return
    square = rows.ndim == 2 and rows.shape[0] == rows.shape[1] >= 2
    if not square or not (rows >= 0).all() or not np.allclose(rows.sum(1), 1, atol=1e-4):
        raise ValueError(f"transitions must be (K, K) with rows on the simplex, not {rows.dtype} of shape {rows.shape}")
