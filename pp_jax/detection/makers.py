"""Every detector made for a victim in one way: from a key, the network, and its view of benign images."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from pp_jax.defenses import ood
from pp_jax.detection.coverage import Coverage
from pp_jax.detection.dadd import Dadd
from pp_jax.detection.hoda import Hoda
from pp_jax.detection.labels import LabelMMD
from pp_jax.detection.prada import Prada
from pp_jax.detection.scores import Confidence, KolmogorovSmirnov, MeanPValue, PValue
from pp_jax.detection.similarity import Similarity
from pp_jax.detection.views import Features, Pixels, Projected
from pp_jax.detection.warning import ExtractionWarning
from pp_jax.detection.watching import Observed
from pp_jax.types import Detector, Params

Maker = Callable[[jax.Array, Any, Params, Observed, Any], Detector[Any]]
"""`maker(key, network, params, seen, labels) -> detector`: for a victim, from benign images with classes (N,)."""


def prada(key: jax.Array, network: Any, params: Params, seen: Observed, labels: Any) -> Prada:
    """PRADA in a random projection of the pixels to 32 numbers."""
    del network, params, labels
    return Prada(seen.probs.shape[1], 32, _projection(key, seen))


def warning(key: jax.Array, network: Any, params: Params, seen: Observed, labels: Any) -> ExtractionWarning:
    """The extraction warning in the same projection, every 100 queries; its validation sets are 2000 of the images."""
    del network, params, labels
    view = _projection(key, seen)
    vectors = jax.lax.map(lambda pair: view(*pair), (seen.images[:2000], seen.features[:2000]), batch_size=250)
    return ExtractionWarning.fitted(view, vectors, np.argmax(seen.probs[:2000], axis=1), every=100)


def dadd(key: jax.Array, network: Any, params: Params, seen: Observed, labels: Any, *, window: int = 16) -> Dadd:
    """D-ADD with the window of its authors for MNIST and CIFAR-10."""
    del key, network, params
    return Dadd.fitted(seen.features, labels, window=window)


def label_mmd(
    key: jax.Array, network: Any, params: Params, seen: Observed, labels: Any, *, window: int = 64
) -> LabelMMD:
    """The discrepancy of labels."""
    del key, network, params, labels
    return LabelMMD.fitted(np.asarray(seen.probs), window=window)


def confidence_ks(
    key: jax.Array, network: Any, params: Params, seen: Observed, labels: Any, *, window: int = 64
) -> KolmogorovSmirnov:
    """Kolmogorov–Smirnov on the victim's confidence."""
    del key, network, params, labels
    return KolmogorovSmirnov.fitted(Confidence(), *seen, window=window)


def coverage(key: jax.Array, network: Any, params: Params, seen: Observed, labels: Any) -> Coverage:
    """Buckets of the feature space."""
    del network, params, labels
    return Coverage.fitted(key, np.asarray(seen.features))


def similarity(key: jax.Array, network: Any, params: Params, seen: Observed, labels: Any) -> Similarity:
    """Matches in a random projection of the victim's features to 32 numbers."""
    del network, params, labels
    order, directions = jax.random.split(key)
    view = Projected.drawn(directions, Features(), of=seen.features.shape[1])
    rows = np.asarray(seen.features @ view.matrix)[np.asarray(jax.random.permutation(order, len(seen.features)))]
    return Similarity.fitted(rows, view=view)


def p_values(
    key: jax.Array, network: Any, params: Params, seen: Observed, labels: Any, *, window: int = 64
) -> MeanPValue:
    """The mean p-value of the OOD detector."""
    order = np.asarray(jax.random.permutation(key, len(seen.images)))
    gate = ood.fit(network, params, np.asarray(seen.images)[order], np.asarray(labels)[order])
    return MeanPValue(PValue(gate), window)


def hoda(snapshots: list[Params], *, window: int = 100) -> Maker:
    """HODA for a victim of which there are snapshots by epoch."""
    return functools.partial(_hoda, snapshots, window)


def _hoda(
    snapshots: list[Params], window: int, key: jax.Array, network: Any, params: Params, seen: Observed, labels: Any
) -> Hoda:
    del key, params, labels
    return Hoda.fitted(network, snapshots, seen.images[:5000], window=window)


def _projection(key: jax.Array, seen: Observed) -> Projected:
    return Projected.drawn(key, Pixels(), of=int(np.prod(seen.images.shape[1:])))


MAKERS: tuple[Maker, ...] = (prada, warning, dadd, label_mmd, confidence_ks, coverage, similarity, p_values)
"""All that need nothing but the victim and benign images; `hoda` needs snapshots too."""
