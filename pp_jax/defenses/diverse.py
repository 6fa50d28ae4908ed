"""EDM, an ensemble of diverse models (Kariyappa, Prakash, Qureshi: "Protecting DNNs from theft using an ensemble of
diverse models", ICLR 2021), and the loss that makes it diverse."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_classes
from pp_jax.defenses.cards import Card, Defender
from pp_jax.defenses.surrogates import train_network
from pp_jax.geometry import simplex
from pp_jax.geometry.posteriors import posterior
from pp_jax.pytree import pytree
from pp_jax.results.identity import describe
from pp_jax.training.augmentation import Augmentation, augmented
from pp_jax.training.contracts import Trainable
from pp_jax.training.losses import check_weight, given, soft_cross_entropy
from pp_jax.types import LogitsFn, Params, Query


@pytree
@dataclasses.dataclass(frozen=True)
class EDM:
    """Answer with one of N models that agree on the victim's data and disagree elsewhere; a keyed hash picks which.

    ỹ = softmax(F_i(x)),   i = hash_key(x) ∈ {0, …, N − 1}

    The attacker learns from a discontinuous mixture. The models take the victim's place: y is not looked at.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN for finite logits; one image has one model for ever, so that
    repeating a query tells nothing of the others. It promises no distance and does not keep the argmax of y: where the
    models disagree, the response is one of theirs, whatever y is (one-hot, uniform, tied, denormal, K = 2).

    All N models run on every query, N forward passes: picking parameters image by image would copy them for each.

    Attributes:
        logits_fn: the architecture of all, `logits_fn(params, image) -> (K,)`; static.
        models: their parameters, every leaf with a leading axis N (published: N = 5), as `training.fit_many` returns
            them and `jax.vmap` of an `init` makes them.

    Raises:
        ValueError: at the first call, for models without a common leading axis or with another number of classes.
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    models: Params

    card = Card("EDM", trained=True)
    random = True
    reads_image = True

    @classmethod
    def fitted(cls, defender: Defender, *, members: int = 5, epochs: int = 2, weight: float = 1.0) -> "EDM":
        """Train the models for a victim: on its data, and to disagree on the defender's outliers.

        Args:
            defender: the victim, its data and outliers.
            members: N; 5 are published.
            epochs: passes over the victim's data, at least 1.
            weight: of the diversity loss.
        """
        outliers = defender.need_outliers("EDM")
        ensemble = Ensemble(defender.network, members)
        loss = DiversityLoss(weight, defender.recipe.augment)
        settings = {"epochs": epochs, "members": members, "weight": weight, "outliers": describe(outliers)}
        models = train_network(defender, "edm", ensemble, loss, epochs, settings, unlabelled=outliers)
        return cls(defender.network, models)

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> None:
        """Nothing: its models are the defender's."""
        del key, network, image_shape

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        dtype = simplex.working(probs).dtype
        sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(self.models)}
        if len(sizes) != 1 or sizes == {()}:
            raise ValueError(f"the models' leaves must share a leading axis N, but theirs are {sorted(sizes)}")
        answers = jax.vmap(posterior, (None, 0, None))(self.logits_fn, self.models, query.image)
        check_classes(answers.shape[-1], probs.shape[-1])
        return answers[jax.random.randint(query.key, (), 0, len(answers))].astype(dtype)


def coherence(probs: jax.Array) -> jax.Array:
    """The largest cosine between two models' posteriors on one image.

        max_{i<j} ⟨f_i, f_j⟩ / (‖f_i‖ ‖f_j‖)

    Args:
        probs: posteriors of the N models, (N, K), N ≥ 2.

    Returns:
        A scalar in [0, 1]: 0 if no two models share a class, 1 if two agree.

    Raises:
        ValueError: for fewer than two models.
    """
    return jnp.max(_cosines(probs))


def diversity_loss(probs: jax.Array) -> jax.Array:
    """A smooth coherence to be minimised on outliers: log Σ_{i<j} exp cos(f_i, f_j), between it and it + log N(N−1)/2.

    Training adds it, on images of another distribution, to the models' cross-entropy on the victim's own data. The
    log-sum-exp in place of the maximum is assumed: it lets every pair of models move.

    Args:
        probs: posteriors of the N models on one image, (N, K), N ≥ 2.

    Returns:
        A scalar.

    Raises:
        ValueError: for fewer than two models.
    """
    return jax.nn.logsumexp(_cosines(probs))


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """N networks of one architecture that train together, a `Trainable` whose parameters are the `models` of `EDM`.

    Attributes:
        network: the architecture, a `Trainable`.
        members: N ≥ 2.

    Raises:
        ValueError: for fewer than two members.
    """

    network: Trainable
    members: int

    def __post_init__(self) -> None:
        """Check the number."""
        if self.members < 2:
            raise ValueError(f"members must be at least 2, not {self.members}")

    @property
    def vmapped(self) -> "Ensemble":
        """Itself: its networks are trained in that form anyway."""
        return self

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Params:
        """Parameters, every leaf with a leading axis N."""
        return jax.vmap(lambda own: self.network.init(own, image_shape))(jax.random.split(key, self.members))

    def train(self, params: Params, images: jax.Array) -> tuple[jax.Array, Params]:
        """Logits (N, B, K), and parameters with their batch statistics updated."""
        return jax.vmap(self.network.vmapped.train, (0, None))(params, images)


@dataclasses.dataclass(frozen=True)
class DiversityLoss:
    """Teaches an `Ensemble` the labels, and to disagree on outliers, which are `fit`'s unlabelled images.

    L = Σ_i CE(t, softmax(z_i)) + weight · mean over outliers of log Σ_{i<j} exp cos(f_i, f_j)

    Attributes:
        weight: of the second term, at least 0.
        augment: (key, image) to image, for the victim's own data; hashable.

    Raises:
        ValueError: for a weight out of range; at the first call without unlabelled images.
    """

    weight: float = 1.0
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        """Check the weight."""
        check_weight(self.weight)

    def __call__(
        self,
        network: Trainable,
        params: Params,
        images: jax.Array,
        targets: jax.Array,
        unlabelled: jax.Array | None,
        key: Any,
    ) -> tuple[jax.Array, Params]:
        """The loss, and the parameters with the batch statistics of the victim's own data."""
        outliers = given(self, unlabelled)
        logits, updated = network.train(params, augmented(key, images, self.augment))
        foreign = jax.nn.softmax(network.train(params, outliers)[0])
        apart = jnp.mean(jax.vmap(diversity_loss, 1)(foreign))
        # A sum: each model moves by the gradient of its own cross-entropy.
        return jnp.sum(jax.vmap(soft_cross_entropy, (0, None))(logits, targets)) + self.weight * apart, updated


def _cosines(probs: jax.Array) -> jax.Array:
    """Cosines of all pairs of rows, (N(N − 1)/2,)."""
    if probs.ndim != 2 or len(probs) < 2:
        raise ValueError(f"the posteriors of an ensemble must be (N, K) with N ≥ 2, not {probs.shape}")
    unit = probs / jnp.sqrt(jnp.sum(probs**2, axis=-1, keepdims=True))
    first, second = np.triu_indices(len(probs), 1)
    return jnp.sum(unit[first] * unit[second], axis=-1)
