"""Transfer: how many adversarial examples made on one model work on another."""

from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax._checks import as_labels, as_pixels, check_random_key
from pp_jax.serving.blackbox import API


class Transfer(NamedTuple):
    """What came of adversarial examples on the model that they were made on, the source, and on the victim.

    A model is *right* about an image where its largest entry (the first on ties) is the label. An example *evades* a
    model that is no longer right about it, and, where there are targets, only if the model says the target. Shares are
    in [0, 1], and None where there is nothing that they are a share of.

    Attributes:
        attacker_gain: share of the images that the victim is right about whose examples evade the victim, whatever the
            source says of them: what the attacker has of its model. Comparable between sources.
        right: number of those images, N_v.
        both_right: number of images that source and victim are both right about, N_b.
        evades_source: share of N_b whose examples evade the source.
        evades_victim: share of N_b whose examples evade the victim.
        transferred: of the examples of N_b that evade the source, the share that evades the victim: the transfer rate.
        same_class: of the examples of N_b that evade both, the share to which both give the same class; 1 with targets.
    """

    attacker_gain: float | None
    right: int
    both_right: int
    evades_source: float | None
    evades_victim: float | None
    transferred: float | None
    same_class: float | None


def transfer(source: API, victim: API, images: Any, adversarial: Any, labels: Any, *, targets: Any = None) -> Transfer:
    """Judge adversarial examples on the model that they were made on, and on the victim.

    Only images count that the victim is right about, and for all but `attacker_gain` those that the source is right
    about as well: an image that is misclassified as it is needs no attack. Papernot et al. count every example; their
    transferability is `evades_victim` with all images in the place of N_b.

    Args:
        source: the attacker's model, images (N, H, W, C) in, scores (N, K) out, such as
            `functools.partial(metrics.predict, network, params)`.
        victim: the same of the victim, with its defense or without: two calls of N images each.
        images: the images as they were, (N, H, W, C).
        adversarial: their examples, (N, H, W, C).
        labels: the true classes, (N,).
        targets: classes that the examples should be taken for, (N,), none of them the label; None where any other
            class than the label will do.

    Returns:
        The shares.

    Raises:
        ValueError: for numbers of images and labels that differ, or a target that is the label.

    Source: Papernot, McDaniel, Goodfellow, "Transferability in machine learning", 2016; Papernot et al., "Practical
        black-box attacks against machine learning", ASIA CCS 2017.
    """
    images, adversarial = as_pixels(images), as_pixels(adversarial, "adversarial")
    if images.shape != adversarial.shape:
        raise ValueError(f"images and adversarial must have one shape: {images.shape} and {adversarial.shape}")
    labels = np.asarray(as_labels(labels, shape=images.shape[:1]))
    if targets is not None:
        targets = np.asarray(as_labels(targets, shape=images.shape[:1], name="targets"))
        if same := int((targets == labels).sum()):
            raise ValueError(f"targets are the labels of {same} of {len(labels)} images: must be other classes")
    own, theirs = (_classes(model, images) == labels for model in (source, victim))
    own_after, theirs_after = (_classes(model, adversarial) for model in (source, victim))

    def evades(classes: np.ndarray) -> np.ndarray:
        return classes != labels if targets is None else classes == targets

    both, fools_source, fools_victim = own & theirs, evades(own_after), evades(theirs_after)
    return Transfer(
        _share(fools_victim, theirs),
        int(theirs.sum()),
        int(both.sum()),
        _share(fools_source, both),
        _share(fools_victim, both),
        _share(fools_victim, both & fools_source),
        _share(own_after == theirs_after, both & fools_source & fools_victim),
    )


def random_targets(key: jax.Array, labels: Any, *, classes: int) -> np.ndarray:
    """For each image a class other than its label, uniformly at random, (N,).

    Args:
        key: randomness.
        labels: (N,).
        classes: K, at least 2.

    Raises:
        ValueError: for fewer than two classes, or labels that are none of them.
    """
    check_random_key(key)
    if classes < 2:
        raise ValueError(f"classes is {classes}: must be at least 2 for another class than the label")
    labels = np.asarray(as_labels(labels, classes=classes))
    return (labels + np.asarray(jax.random.randint(key, labels.shape, 1, classes))) % classes


def _classes(model: API, images: Any) -> np.ndarray:
    """What a model says, (N,)."""
    scores = np.asarray(model(images))
    if scores.ndim != 2 or len(scores) != len(images):
        raise ValueError(f"a model returned {scores.shape}: must be ({len(images)}, K), a row for each image")
    return scores.argmax(axis=1)


def _share(chosen: np.ndarray, among: np.ndarray) -> float | None:
    """The share of some images that are chosen; None of none."""
    return float(chosen[among].mean()) if among.any() else None
