"""T3A: predictions by a head that adapts to the images it is asked about (Iwasawa and Matsuo 2021)."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_inputs, check_count
from pp_jax.types import Params

_BATCH = 64
_TINY = 1e-12


@runtime_checkable
class Featured(Protocol):
    """A network whose last layer is dense, and whose input to that layer can be asked for."""

    def features(self, params: Params, image: jax.Array) -> jax.Array:
        """Return the input of the last layer, (F,)."""


def t3a(network: Any, params: Params, images: Any, *, kept: int = 100) -> np.ndarray:
    """Posteriors by the nearest of class means that are learnt, without labels, from the images themselves.

    S_k ∋ w_k/‖w_k‖ at first, and h(x)/‖h(x)‖ for every x so far whose posterior by the head is largest at k
    c_k = Σ_{s ∈ S_k} s / ‖Σ_{s ∈ S_k} s‖ over the `kept` of S_k of the least entropy,   ỹ(x) = softmax(h(x)·c_k)

    Images are taken in order, 64 at a time; what was predicted stays. The network is not trained. Predictions depend on
    the images before: they say how well an attacker does that sees its test images, without labels, at once.

    Args:
        network: one with `features`, as those of `pp_jax.models`.
        params: its parameters; one kernel of theirs must be (F, K), the head's.
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        kept: supports of each class, at least 1 (E3: 100).

    Returns:
        (N, K), on the host.

    Raises:
        ValueError: for a network without features, parameters of which no or more than one kernel can be the head's, a
            number below 1, or pixels out of range.

    Source: Iwasawa, Matsuo, "Test-time classifier adjustment module for model-agnostic domain generalization", NeurIPS
        2021; used by E3 (arXiv 2409.14122).
    """
    images = as_inputs(images)
    check_count("kept", kept, low=1)
    check_featured(network)
    outputs = jax.jit(
        jax.vmap(lambda params, image: (network.features(params, image), network(params, image)), (None, 0))
    )
    shapes = jax.eval_shape(outputs, params, images[:1])
    weights, bias = _head(params, shapes[0].shape[1], shapes[1].shape[1])
    supports, doubts = _unit(weights.T), _entropy(weights.T @ weights + bias)
    labels, found = np.arange(len(supports)), []
    for first in range(0, len(images), _BATCH):
        batch = np.asarray(images[first : first + _BATCH])
        # Filled up, so that one program serves all.
        filled = np.concatenate([batch, np.repeat(batch[-1:], _BATCH - len(batch), axis=0)])
        features, logits = (np.asarray(part, np.float32)[: len(batch)] for part in outputs(params, filled))
        supports = np.concatenate([supports, _unit(features)])
        doubts, labels = np.concatenate([doubts, _entropy(logits)]), np.concatenate([labels, logits.argmax(axis=1)])
        rows = np.concatenate([_least(doubts, labels == label, kept) for label in range(logits.shape[1])])
        supports, doubts, labels = supports[rows], doubts[rows], labels[rows]
        centres = np.stack([supports[labels == label].sum(axis=0) for label in range(logits.shape[1])])
        found.append(np.asarray(jax.nn.softmax(jnp.asarray(features @ _unit(centres).T))))
    return np.concatenate(found)


def check_featured(network: Any) -> None:
    """Refuse a network that does not tell the input of its last layer.

    Raises:
        ValueError: naming its class.
    """
    if not isinstance(network, Featured):
        raise ValueError(
            f"network {type(network).__name__} has no features(params, image): T3A needs the input of its last layer"
        )


def _head(params: Params, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (F, K) and bias (K,) of the last layer, found by its shape."""
    leaves = jax.tree_util.tree_flatten_with_path(params["params"])[0]
    kernels = [(path, leaf) for path, leaf in leaves if np.shape(leaf) == (features, classes)]
    if len(kernels) != 1:
        raise ValueError(f"params have {len(kernels)} kernels of shape ({features}, {classes}): T3A needs exactly one")
    place, kernel = kernels[0]
    biases = [leaf for path, leaf in leaves if path[:-1] == place[:-1] and np.shape(leaf) == (classes,)]
    return np.asarray(kernel, np.float32), np.asarray(biases[0] if biases else np.zeros(classes), np.float32)


def _least(doubts: np.ndarray, own: np.ndarray, kept: int) -> np.ndarray:
    """The rows among a class's own of the least entropy."""
    rows = np.flatnonzero(own)
    return rows[np.argsort(doubts[rows], kind="stable")[:kept]]


def _entropy(logits: np.ndarray) -> np.ndarray:
    """Of softmax, in nats, (N,)."""
    logs = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))
    return -(np.exp(logs) * logs).sum(axis=1)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length one; those of zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
