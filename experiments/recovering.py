"""What a thief trains on: the answers, or what it recovers from them knowing which defense made them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from attackers import Labels
from defenses import Defense

if TYPE_CHECKING:
    from steal import Config
    from theft import Scene

COPIES = 3
"""Changed copies of an image that a smoothing thief averages over."""
DDAE_PAIRS, DDAE_EPOCHS = 20_000, 40
"""D-DAE+: pairs and epochs of its recovery network, a fifth of what is published: seconds in place of minutes."""
NAMES: dict[Labels, str] = {
    "soft": "answers",
    "top1": "argmax",
    "smoothing": "smoothing",
    "partial_bayes": "partial Bayes",
    "ddae": "D-DAE",
    "ddae_plus": "D-DAE+",
    "inverted": "inversion",
    "inverted_weights": "inversion, weights known",
}
_SHADOWED = 500  # queries that each shadow model answers
_TOWARDS_VERTEX = ("mad", "least_likely", "next_class", "constant_class", "second_likeliest")
# They raise one class by ε/2 as well, but take it from the others in turn, not in proportion: nearly inverted.
_RAISE_ONE = ("min_inner", "grad2")


def possible(labels: Labels, defense: Defense) -> bool:
    """Whether there is anything to recover, and a method for it."""
    if labels in ("soft", "top1", "smoothing"):
        return True
    if labels == "inverted":
        raising = defense.name in (*_TOWARDS_VERTEX, *_RAISE_ONE)
        return raising and defense.distance == "l1" and defense.ending == "line_search"
    if labels == "inverted_weights":
        return possible("inverted", defense) and defense.name == "mad"
    return defense.name != "none"


def check(labels: Labels, defense: Defense) -> None:
    """Refuse a recovery that the defense leaves nothing to do, or that does not exist for it."""
    if not possible(labels, defense):
        raise ValueError(f"attack.labels is {labels}: nothing can be recovered so from the defense {defense.name}")


def api(config: Config, at: Scene, metered: Any) -> Any:
    """The prediction API as the thief uses it, around the one that counts its queries."""
    import jax

    from pp_jax.attacks import recovery

    if config.attack.labels != "smoothing":
        return metered
    return recovery.smoothing(jax.random.fold_in(at.attack_key, 1), metered, copies=COPIES)


def targets(config: Config, at: Scene, images: Any, answers: Any) -> Any:
    """What the thief trains on, (N, K) soft or (N,) classes."""
    import jax
    import numpy as np

    from pp_jax.attacks import recovery

    labels, defense = config.attack.labels, config.defense
    if labels in ("soft", "smoothing"):
        return answers
    if labels == "top1":
        return answers.argmax(axis=1)
    if labels == "inverted_weights":
        return recovery.invert_known_mad(answers, images, at.box.defense)
    # For line searches towards a vertex the clean posterior is far from the answer, and near its inversion.
    inverted = recovery.invert_mad(answers, epsilon=defense.epsilon) if possible("inverted", defense) else None
    if labels == "inverted":
        return inverted
    key, own = jax.random.split(jax.random.fold_in(at.attack_key, 2))
    presumed = defense.build(at.thief, at.thief.init(own, at.pool.image_shape))
    seen = images if hasattr(presumed, "surrogate") else None
    if labels == "partial_bayes":
        return recovery.partial_bayes(key, answers, presumed, images=seen, centres=inverted)
    if labels == "ddae_plus":
        recipe = dataclasses.replace(recovery.PUBLISHED, epochs=DDAE_EPOCHS)
        return recovery.ddae_plus(
            key, answers, presumed, images=seen, centres=inverted, samples=DDAE_PAIRS, recipe=recipe
        )
    own_images = images[:_SHADOWED]
    shadows = recovery.shadow_posteriors(own, at.thief, images, answers, config.attack.recipe(), queries=own_images)
    theirs = None if seen is None else np.concatenate([own_images] * (len(shadows) // len(own_images)))
    return recovery.ddae(key, answers, presumed, shadows, images=theirs)
