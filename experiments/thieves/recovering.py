"""What a thief makes of the answers: the answers themselves, or what it recovers knowing which defense made them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from owners.defenses import Defense
from owners.networks import Beside
from thieves.attackers import SEMI, SEVERAL, Labels

if TYPE_CHECKING:
    from steal import Config
    from thieves.theft import Scene

NAMES: dict[Labels, str] = {
    "soft": "answers",
    "top1": "argmax",
    "confident": "confident argmax",
    "balanced": "balanced",
    "smoothing": "smoothing",
    "s4l": "S4L",
    "mixmatch": "MixMatch",
    "partial_bayes": "partial Bayes",
    "ddae": "D-DAE",
    "ddae_plus": "D-DAE+",
    "ddae_imagined": "D-DAE, imagined",
    "inverted": "inversion",
    "inverted_weights": "inversion, weights known",
    "relabelled": "relabelling",
    "agreeing": "agreement",
    "genuine": "genuine known",
    "passing": "gate known",
}
_TOWARDS_VERTEX = ("mad", "least_likely", "next_class", "constant_class", "second_likeliest")
# They raise one class by ε/2 as well, but take it from the others in turn, not in proportion: nearly inverted.
_RAISE_ONE = ("min_inner", "grad2")

_GATED = ("keyed_swap", "always_swapped")
_PAIRED = (*_GATED, "merged")

# Networks that only the defender has, or answers that hang on all queries before.
_BEYOND_REACH = ("misinformation", "edm", "modelguard_s")


def possible(labels: Labels, defense: Defense) -> bool:
    """Whether there is anything to recover, and a method for it."""
    if labels in ("soft", "top1", "confident", "balanced", "smoothing", "agreeing", *SEMI):
        return True
    if labels in ("genuine", "passing"):
        return defense.name in _GATED or (labels, defense.name) == ("genuine", "misinformation")
    if defense.name in _BEYOND_REACH:
        return False
    if labels == "inverted" and defense.name == "always_swapped":
        return True
    if labels == "inverted":
        raising = defense.name in (*_TOWARDS_VERTEX, *_RAISE_ONE)
        return raising and defense.distance == "l1" and defense.ending == "line_search"
    if labels == "inverted_weights":
        return possible("inverted", defense) and defense.name == "mad"
    if labels == "relabelled":
        return defense.name in _PAIRED
    return defense.name != "none"


def check(labels: Labels, defense: Defense) -> None:
    """Refuse a recovery that the defense leaves nothing to do, or that does not exist for it."""
    if not possible(labels, defense):
        raise ValueError(f"attack.labels is {labels}: nothing can be recovered so from the defense {defense.name}")


def api(config: Config, at: Scene, metered: Any) -> Any:
    """The prediction API as the thief uses it, around the one that counts its queries."""
    import jax

    from pp_jax import recovery

    if config.attack.labels not in SEVERAL:
        return metered
    return recovery.smoothing(jax.random.fold_in(at.attack_key, 1), metered, copies=config.attack.effort.copies)


def targets(config: Config, at: Scene, images: Any, answers: Any) -> Any:
    """What the thief trains on, (N, K) soft or (N,) classes."""
    import jax
    import numpy as np

    from pp_jax import recovery

    labels, defense = config.attack.labels, config.defense
    if labels in ("soft", "balanced", "genuine", "passing", *SEVERAL, *SEMI):
        return answers
    if labels in ("top1", "confident"):
        return answers.argmax(axis=1)
    if labels == "inverted_weights":
        return recovery.invert_known_mad(answers, images, at.box.defense)
    # For line searches towards a vertex the clean posterior is far from the answer, and near its inversion.
    inverted = _inverted(answers, defense) if possible("inverted", defense) else None
    if labels == "inverted":
        return inverted
    key, own = jax.random.split(jax.random.fold_in(at.attack_key, 2))
    if labels == "relabelled":
        return _relabelled(config, at, images, answers, key)
    # What only the defender has, as the gate of a keyed swap, the thief does without.
    presumed = defense.build(at.thief, at.thief.init(own, at.pool.image_shape), _known(defense, at, answers.shape[1]))
    seen = images if presumed.reads_image else None
    if labels == "partial_bayes":
        return recovery.partial_bayes(key, answers, presumed, images=seen, centres=inverted)
    effort = config.attack.effort
    recipe = dataclasses.replace(recovery.PUBLISHED, epochs=effort.pair_epochs)
    if labels == "ddae_imagined":
        theirs = None if seen is None else images[np.arange(effort.pairs) % len(images)]
        posteriors = imagined(own, effort.pairs, answers.shape[1])
        return recovery.ddae(key, answers, presumed, posteriors, images=theirs, recipe=recipe)
    if labels == "ddae_plus":
        return recovery.ddae_plus(
            key, answers, presumed, images=seen, centres=inverted, samples=effort.pairs, recipe=recipe
        )
    return _from_shadows(config, at, images, answers, presumed, keys=(key, own))


def imagined(key: Any, count: int, classes: int) -> Any:
    """Posteriors such as classifiers give, from doubtful to certain: y = softmax(s z), s ~ U(½, 8), z ~ N(0, I)."""
    import jax
    import numpy as np

    scale_key, key = jax.random.split(key)
    scales = jax.random.uniform(scale_key, (count, 1), minval=0.5, maxval=8)
    return np.asarray(jax.nn.softmax(scales * jax.random.normal(key, (count, classes))))


def _known(defense: Defense, at: Scene, classes: int) -> Beside:
    """What a thief has of the defender's networks: a poison network, which is a rule like others; its key it lacks."""
    if defense.name != "learned":
        return Beside(classes)
    return Beside(classes, at.box.defense.network, at.box.defense.params)


def _inverted(answers: Any, defense: Defense) -> Any:
    """The clean posteriors of a line search towards a vertex, or of pairs that nearly every query has exchanged."""
    from pp_jax import recovery

    if defense.name == "always_swapped":
        return answers[:, _partners(answers)]
    return recovery.invert_mad(answers, epsilon=defense.epsilon)


def _partners(answers: Any) -> Any:
    """The pairs of classes, which a thief is taken to know."""
    import numpy as np

    return np.asarray(Beside(answers.shape[1]).partners())


def _relabelled(config: Config, at: Scene, images: Any, answers: Any, key: Any) -> Any:
    """Targets against a keyed swap of known pairs: each pair's mass, divided as a thief who learnt so far divides it.

    The queries that passed for familiar were answered truly and tip the balance, which relabelling amplifies.
    """
    import jax
    import numpy as np

    from pp_jax import metrics, training

    pairs = _partners(answers)
    apart = pairs != np.arange(len(pairs))
    mass = np.where(apart, answers + answers[:, pairs], answers)
    learnt = answers
    for number in range(config.attack.effort.relabellings):
        own = jax.random.fold_in(key, number)
        guesses = metrics.predict(at.thief, training.fit(own, at.thief, images, learnt, config.attack.recipe()), images)
        within = np.where(apart, guesses / np.maximum(guesses + guesses[:, pairs], 1e-12), 1)
        learnt = mass * within
        learnt /= learnt.sum(axis=1, keepdims=True)
    return learnt


def _from_shadows(config: Config, at: Scene, images: Any, answers: Any, presumed: Any, *, keys: Any) -> Any:
    """D-DAE, with a few shadow models of the thief's architecture and recipe that learnt from its answers."""
    import numpy as np

    from pp_jax import recovery

    key, own = keys
    effort = config.attack.effort
    queries = images[: effort.shadow_queries]
    shadows = recovery.shadow_posteriors(
        own, at.thief, images, answers, config.attack.recipe(), queries=queries, count=effort.shadows
    )
    theirs = np.concatenate([queries] * effort.shadows) if presumed.reads_image else None
    return recovery.ddae(key, answers, presumed, shadows, images=theirs)
