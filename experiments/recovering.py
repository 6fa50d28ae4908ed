"""What a thief trains on: the answers, what it recovers from them knowing which defense made them, and other images."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import train_victim
from attackers import SEMI, Attack, Labels
from defenses import Defense
from train_defense import Beside

if TYPE_CHECKING:
    from steal import Config
    from theft import Progress, Scene

COPIES = 3
"""Changed copies of an image that a smoothing thief averages over."""
DDAE_PAIRS, DDAE_EPOCHS = 20_000, 40
"""D-DAE+: pairs and epochs of its recovery network, a fifth of what is published: seconds in place of minutes."""
RELABELLINGS = 2
"""Thieves that a relabelling thief trains before the one that it keeps."""
DDAE_SHADOWS = 4
"""Shadow models of D-DAE, a fifth of what is published, for the same reason."""
S4L_WEIGHT, MIXMATCH_WEIGHT = 0.3, 1.0
"""Of what images without answers teach, beside the answers."""
MIXMATCH_ALPHA = 0.0
"""Nothing is mixed: in a few hundred steps a thief learns less from mixtures than from images (MNIST ← notMNIST)."""
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
    "inverted": "inversion",
    "inverted_weights": "inversion, weights known",
    "relabelled": "relabelling",
}
_SHADOWED = 500  # queries that each shadow model answers
_TOWARDS_VERTEX = ("mad", "least_likely", "next_class", "constant_class", "second_likeliest")
# They raise one class by ε/2 as well, but take it from the others in turn, not in proportion: nearly inverted.
_RAISE_ONE = ("min_inner", "grad2")

_PAIRED = ("keyed_swap", "always_swapped", "merged")

# Networks that only the defender has, or answers that hang on all queries before.
_BEYOND_REACH = ("misinformation", "edm", "modelguard_s")


def possible(labels: Labels, defense: Defense) -> bool:
    """Whether there is anything to recover, and a method for it."""
    if labels in ("soft", "top1", "confident", "balanced", "smoothing", *SEMI):
        return True
    if labels == "inverted_weights" and defense.name == "misinformation":
        return True
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

    from pp_jax.attacks import recovery

    if config.attack.labels != "smoothing":
        return metered
    return recovery.smoothing(jax.random.fold_in(at.attack_key, 1), metered, copies=COPIES)


def lessons(config: Config, at: Scene, images: Any, answers: Any) -> tuple[Any, Any]:
    """What the thief trains on: images, and their targets, (N, K) soft or (N,) classes."""
    learnt = targets(config, at, images, answers)
    rows = trusted(config, at, images, answers)
    return (images, learnt) if rows is None else (images[rows], learnt[rows])


def trusted(config: Config, at: Scene, images: Any, answers: Any) -> Any:
    """Rows of the answers that the thief learns from; None for all."""
    import jax

    labels = config.attack.labels
    if labels == "balanced":
        return evened(jax.random.fold_in(at.attack_key, 4), answers)
    if labels == "confident":
        return most_certain(answers, share=config.attack.confident_share)
    if labels == "inverted_weights" and config.defense.name == "misinformation":
        return genuine(at.box.defense, images, answers)
    return None


def evened(key: Any, answers: Any) -> Any:
    """Rows that are left if every answered class, of (N, K), keeps at most as many as the median class has.

    A network that misinforms may send most of what it garbles to few classes, where true answers are rare then.
    """
    import jax
    import numpy as np

    classes = answers.argmax(axis=1)
    most = max(1, int(np.median(np.bincount(classes, minlength=answers.shape[1]))))
    order = np.asarray(jax.random.permutation(key, len(answers)))
    kept = [order[classes[order] == label][:most] for label in range(answers.shape[1])]
    return np.sort(np.concatenate(kept))


def genuine(defense: Any, images: Any, answers: Any) -> Any:
    """Rows that adaptive misinformation did not answer with its own network, for a thief who has that network."""
    import numpy as np

    from pp_jax import metrics

    wrong = metrics.predict(defense.logits_fn, defense.params, images)
    rows = np.flatnonzero(np.abs(answers - wrong).sum(axis=1) > 1e-3)
    return rows if len(rows) else np.arange(len(answers))


def most_certain(answers: Any, *, share: float) -> Any:
    """Which answers, (N, K), have the largest maxima: rows in the order they were asked in, at least one.

    A defense that spares confident queries, as adaptive misinformation does, leaves these clean; and one that is bound
    to an L1 distance ε cannot change the argmax where the victim's two largest classes are further apart than ε. Of
    answers alike, such as labels alone, the first are taken.
    """
    import numpy as np

    order = np.argsort(-answers.max(axis=1), kind="stable")
    return np.sort(order[: max(1, round(share * len(answers)))])


def targets(config: Config, at: Scene, images: Any, answers: Any) -> Any:
    """What the thief trains on, (N, K) soft or (N,) classes."""
    import jax

    from pp_jax.attacks import recovery

    labels, defense = config.attack.labels, config.defense
    if labels in ("soft", "balanced", "smoothing", *SEMI):
        return answers
    if labels in ("top1", "confident"):
        return answers.argmax(axis=1)
    if labels == "inverted_weights" and defense.name == "misinformation":
        return answers
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
    presumed = defense.build(at.thief, at.thief.init(own, at.pool.image_shape), Beside(answers.shape[1]))
    seen = images if hasattr(presumed, "surrogate") else None
    if labels == "partial_bayes":
        return recovery.partial_bayes(key, answers, presumed, images=seen, centres=inverted)
    if labels == "ddae_plus":
        recipe = dataclasses.replace(recovery.PUBLISHED, epochs=DDAE_EPOCHS)
        return recovery.ddae_plus(
            key, answers, presumed, images=seen, centres=inverted, samples=DDAE_PAIRS, recipe=recipe
        )
    return _from_shadows(config, at, images, answers, presumed, keys=(key, own))


def _inverted(answers: Any, defense: Defense) -> Any:
    """The clean posteriors of a line search towards a vertex, or of pairs that nearly every query has exchanged."""
    from pp_jax.attacks import recovery

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
    for number in range(RELABELLINGS):
        own = jax.random.fold_in(key, number)
        guesses = metrics.predict(at.thief, training.fit(own, at.thief, images, learnt, config.attack.recipe()), images)
        within = np.where(apart, guesses / np.maximum(guesses + guesses[:, pairs], 1e-12), 1)
        learnt = mass * within
        learnt /= learnt.sum(axis=1, keepdims=True)
    return learnt


def _from_shadows(config: Config, at: Scene, images: Any, answers: Any, presumed: Any, *, keys: Any) -> Any:
    """D-DAE, with a few shadow models of the thief's architecture and recipe that learnt from its answers."""
    import numpy as np

    from pp_jax.attacks import recovery

    key, own = keys
    queries = images[:_SHADOWED]
    shadows = recovery.shadow_posteriors(
        own, at.thief, images, answers, config.attack.recipe(), queries=queries, count=DDAE_SHADOWS
    )
    theirs = np.concatenate([queries] * DDAE_SHADOWS) if hasattr(presumed, "surrogate") else None
    return recovery.ddae(key, answers, presumed, shadows, images=theirs)


def check_left(attack: Attack, pool: Any) -> None:
    """Refuse a thief who learns from images without answers, but asks about all."""
    if attack.labels in SEMI and attack.budget >= len(pool):
        raise ValueError(
            f"budget is {attack.budget}: must be below {len(pool)}, the images of {attack.pool}, "
            f"as some are left unasked where labels is {attack.labels}"
        )


def unasked(key: Any, pool: Any, asked: Any, *, most: int) -> Any:
    """Images of the pool that were not asked about, nor are copies of one that was: at random, no more than `most`."""
    import jax
    import numpy as np

    known = {image.tobytes() for image in asked}
    left = np.flatnonzero([image.tobytes() not in known for image in pool])
    if len(left) == 0:
        raise ValueError("no image of the pool is left that was not asked about: the budget must be smaller")
    return pool[np.sort(np.asarray(jax.random.permutation(key, left))[:most])]


def semi(config: Config, at: Scene, images: Any, targets: Any, progress: Progress) -> tuple[Any, Any]:
    """Train a thief on images with targets and on others of the pool; its network and parameters.

    Unlike a supervised training it is not kept on the way: a killed one starts anew.
    """
    import jax

    from pp_jax.attacks import recovery

    attack = config.attack
    network = at.thief
    loss: recovery.SemiLoss = recovery.MixMatch(
        MIXMATCH_WEIGHT, alpha=MIXMATCH_ALPHA, augment=changes(at.pool.image_shape)
    )
    if attack.labels == "s4l":
        network = train_victim.network_for(attack.model, targets.shape[1] + 4, at.pool.image_shape)
        loss = recovery.Rotations(S4L_WEIGHT)
    key = jax.random.fold_in(at.attack_key, 3)
    # As many as are drawn beside the queries: more would not be seen.
    others = unasked(key, at.pool.images, images, most=attack.epochs * len(images))
    params = recovery.fit_semi(
        at.thief_key,
        network,
        images,
        targets,
        others,
        attack.recipe(),
        loss=loss,
        on_epoch=lambda epoch, _: progress(epoch / attack.epochs),
    )
    return (recovery.FirstClasses(network, targets.shape[1]) if attack.labels == "s4l" else network), params


def changes(image_shape: tuple[int, int, int]) -> Any:
    """MixMatch's changes to an image, under which its class should stay.

    Photographs, which have colours, are shifted and mirrored as in the paper. Grey images show digits and letters: in
    the mirror a b is a d, so they are shifted alone, by two pixels, as much as MNIST leaves around its digits; what
    enters is their own black.
    """
    from pp_jax import augmentation

    return augmentation.CIFAR if image_shape[-1] == 3 else augmentation.bind(augmentation.random_crop, padding=2)
