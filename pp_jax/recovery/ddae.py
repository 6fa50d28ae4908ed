"""D-DAE: learn from pairs made with the presumed defense how to map answers back to posteriors (Chen et al. 2023)."""

import dataclasses
from typing import Any

import jax
import numpy as np

from pp_jax._checks import as_pixels, check_answers, check_count, check_random_key
from pp_jax.geometry import simplex
from pp_jax.recovery import pairs
from pp_jax.recovery.autoencoder import learn
from pp_jax.recovery.knowledge import Knowledge, keys
from pp_jax.recovery.partial_bayes import has_something_to_recover, inverted
from pp_jax.training import Recipe, Sets, fit_many
from pp_jax.training.losses import supervised_by
from pp_jax.training.predicting import predict
from pp_jax.training.step import check_pairs
from pp_jax.types import Defense, TransferSet

PUBLISHED = Recipe(epochs=200, batch_size=64, learning_rate=1e-2, momentum=0.9, decay_every=200)
"""How the recovery network is trained: SGD at a constant rate."""

# From so many classes on, the hidden layers are those published for 100.
_MANY_CLASSES = 50


def ddae(
    key: jax.Array,
    answers: Any,
    defense: Defense,
    probs: Any,
    *,
    images: Any = None,
    hidden: tuple[int, ...] | None = None,
    recipe: Recipe = PUBLISHED,
) -> np.ndarray:
    """Targets from a network that was trained to undo the presumed defense on posteriors of the attacker's own.

    ŷ = f(ỹ),   f = argmin Σ_i ‖f(defense(y_i)) − y_i‖₁   (K times the mean absolute error)

    Args:
        key: randomness of the defense's draws and of training.
        answers: ỹ, (N, K).
        defense: the defense that the attacker presumes.
        probs: clean posteriors that are like the victim's, (P, K), P ≥ 2: those of `shadow_posteriors`.
        images: the images that they belong to, (P, H, W, C), where the defense looks at them.
        hidden: units of the hidden layers; by default as published, (128, 64) for 10 and (1024, 512) for 100 classes.
        recipe: of the recovery network.

    Returns:
        Targets ŷ, (N, K), on the host.

    Raises:
        ValueError: for responses or posteriors off the simplex, with different numbers of classes or of images, or a
            defense that needs images without any.

    Source: Chen et al., "D-DAE: defense-penetrating model extraction attacks", S&P 2023; sizes as in
        Tang et al., "ModelGuard", USENIX Security 2024.
    """
    check_random_key(key)
    check_answers(answers)
    check_answers(probs, images, "probs")
    pairs.check_defense(defense, images)
    if np.shape(answers)[1] != np.shape(probs)[1] or len(probs) < 2:
        raise ValueError(f"probs must be (P, {np.shape(answers)[1]}) with P ≥ 2, not {np.shape(probs)}")
    push_key, learn_key = jax.random.split(key)
    clean = simplex.working(probs)
    seen = pairs.pushed(push_key, defense, clean, images)
    if hidden is None:
        hidden = (1024, 512) if clean.shape[1] >= _MANY_CLASSES else (128, 64)
    recovery = learn(learn_key, seen, clean, hidden=tuple(hidden), recipe=recipe)
    return np.asarray(recovery(simplex.working(answers).astype(clean.dtype)))


def ddae_plus(
    key: jax.Array,
    answers: Any,
    defense: Defense,
    *,
    images: Any = None,
    centres: Any = None,
    samples: int = 10**5,
    concentration: float = 8.0,
    hidden: tuple[int, ...] | None = None,
    recipe: Recipe = PUBLISHED,
) -> np.ndarray:
    """D-DAE without shadow models: the posteriors to learn from are y ~ Dirichlet(concentration · K · ŷ⁰).

    Args:
        key: randomness of the samples, of the defense's draws and of training.
        answers: ỹ, (N, K).
        defense: the defense that the attacker presumes.
        images: the queries, (N, H, W, C), where the defense looks at them; each sample has the image of its centre.
        centres: ŷ⁰, where each posterior is thought to be, (N, K); the responses by default.
        samples: pairs, at least 2, around the centres in turn.
        concentration: of the cloud around a centre, above 0.
        hidden: units of the hidden layers.
        recipe: of the recovery network.

    Returns:
        Targets ŷ, (N, K), on the host.

    Raises:
        ValueError: as `ddae`, and for centres of another shape than the responses or a number out of range.

    Source: Tang et al., "ModelGuard", USENIX Security 2024 (D-DAE+).
    """
    check_random_key(key)
    check_answers(answers, images)
    centres = answers if centres is None else centres
    check_answers(centres, name="centres")
    if np.shape(centres) != np.shape(answers):
        raise ValueError(f"centres must be of the answers' shape {np.shape(answers)}, not {np.shape(centres)}")
    check_count("samples", samples, low=2)
    if not 0 < concentration < float("inf"):
        raise ValueError(f"concentration must be above 0 and finite, not {concentration}")
    draw_key, learn_key = jax.random.split(key)
    rows = np.arange(samples) % len(answers)
    probs = pairs.around(draw_key, simplex.working(centres)[rows], concentration=concentration)
    chosen = None if images is None else np.asarray(images)[rows]
    return ddae(learn_key, answers, defense, probs, images=chosen, hidden=hidden, recipe=recipe)


def shadow_posteriors(
    key: jax.Array,
    network: Any,
    images: Any,
    targets: Any,
    recipe: Recipe,
    *,
    queries: Any,
    count: int = 20,
) -> np.ndarray:
    """Posteriors of shadow models: networks that the attacker trains, each on a random half of what it has.

    Args:
        key: randomness of the halves and of training.
        network: the attacker's architecture, one of `pp_jax.models` or anything with `init`, `train` and a call.
        images: the attacker's own, (N, H, W, C), N ≥ 2.
        targets: their labels (N,) or soft labels (N, K), the responses if there is nothing better.
        recipe: how each is trained; all as one program.
        queries: the images to predict, (M, H, W, C).
        count: shadow models, at least 1.

    Returns:
        (count · M, K): the first model's posteriors for all queries, then the second's, … Their images are
        `np.concatenate([queries] * count)`.

    Raises:
        ValueError: for images without a target each, fewer than two, or a count below 1.

    Source: Chen et al., "D-DAE", S&P 2023.
    """
    check_random_key(key)
    queries = as_pixels(queries, "queries")
    check_pairs(images, targets)
    if count < 1 or len(images) < 2:
        raise ValueError(f"shadow models need at least 2 images and a count of at least 1, not {len(images)}, {count}")
    half_key, fit_key = jax.random.split(key)
    order = jax.vmap(lambda k: jax.random.permutation(k, len(images)))(jax.random.split(half_key, count))
    rows = np.asarray(order)[:, : len(images) // 2]
    sets = Sets(images, rows, np.asarray(targets)[rows])
    params = fit_many(jax.random.split(fit_key, count), network, sets, recipe, loss=supervised_by(targets))
    each = (jax.tree.map(lambda leaf, t=t: leaf[t], params) for t in range(count))
    return np.concatenate([predict(network, one, queries) for one in each])


@dataclasses.dataclass(frozen=True)
class DDAE:
    """D-DAE with shadow models that the attacker trains on its responses (`ddae`).

    Attributes:
        shadows: models; published: 20.
        queries: that each of them responses, at least 2.
    """

    shadows: int = 4
    queries: int = 500

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.shadows < 1 or self.queries < 2:
            raise ValueError(f"shadows is {self.shadows} and queries {self.queries}: must be at least 1 and at least 2")

    def applies_to(self, defense: Any) -> bool:
        """To every defense without memory; not to none."""
        return has_something_to_recover(defense)

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with the recovered posteriors, (n, K)."""
        own, shadow_key = keys(key)
        presumed, images = knowledge.presumed, transfer.images
        queries = images[: self.queries]
        probs = shadow_posteriors(
            shadow_key, knowledge.network, images, transfer.answers, knowledge.recipe, queries=queries,
            count=self.shadows,
        )  # fmt: skip
        theirs = np.concatenate([queries] * self.shadows) if presumed.reads_image else None
        return transfer._replace(answers=ddae(own, transfer.answers, presumed, probs, images=theirs))


@dataclasses.dataclass(frozen=True)
class DDAEPlus:
    """D-DAE+ : posteriors to learn from are drawn around the responses (`ddae_plus`).

    Attributes:
        pairs: that the recovery network learns from, at least 2; published: 10⁵.
        epochs: passes over them; published: 200. The defaults are a fifth of both: seconds in place of minutes.
    """

    pairs: int = 20_000
    epochs: int = 40

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_pairs(self.pairs, self.epochs)

    def applies_to(self, defense: Any) -> bool:
        """To every defense without memory; not to none."""
        return has_something_to_recover(defense)

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with the recovered posteriors, (n, K)."""
        own, _ = keys(key)
        presumed = knowledge.presumed
        targets = ddae_plus(
            own,
            transfer.answers,
            presumed,
            images=transfer.images if presumed.reads_image else None,
            centres=inverted(transfer.answers, presumed),
            samples=self.pairs,
            recipe=dataclasses.replace(PUBLISHED, epochs=self.epochs),
        )
        return transfer._replace(answers=targets)


@dataclasses.dataclass(frozen=True)
class DDAEImagined:
    """D-DAE on posteriors such as classifiers give, y = softmax(s z), s ~ U(½, 8), z ~ N(0, I): no data, no shadows.

    Attributes:
        pairs: that the recovery network learns from, at least 2.
        epochs: passes over them.
    """

    pairs: int = 20_000
    epochs: int = 40

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_pairs(self.pairs, self.epochs)

    def applies_to(self, defense: Any) -> bool:
        """To every defense without memory; not to none."""
        return has_something_to_recover(defense)

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with the recovered posteriors, (n, K)."""
        own, imagining = keys(key)
        presumed, images = knowledge.presumed, transfer.images
        scale_key, draw_key = jax.random.split(imagining)
        scales = jax.random.uniform(scale_key, (self.pairs, 1), minval=0.5, maxval=8)
        shape = (self.pairs, np.shape(transfer.answers)[1])
        probs = np.asarray(jax.nn.softmax(scales * jax.random.normal(draw_key, shape)))
        theirs = images[np.arange(self.pairs) % len(images)] if presumed.reads_image else None
        recipe = dataclasses.replace(PUBLISHED, epochs=self.epochs)
        return transfer._replace(answers=ddae(own, transfer.answers, presumed, probs, images=theirs, recipe=recipe))


def _check_pairs(pairs_: int, epochs: int) -> None:
    """Refuse too few pairs or epochs."""
    if pairs_ < 2 or epochs < 1:
        raise ValueError(f"pairs is {pairs_} and epochs {epochs}: must be at least 2 and at least 1")
