"""How networks are taught to defend: to avoid the true class, or to agree on the victim's data alone."""

import dataclasses
from typing import Any

from owners import outliers

DIVERSITY_WEIGHT = 1.0
"""Of the diversity loss beside the cross-entropies of EDM's models."""


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """N networks of one architecture that train together.

    Attributes:
        network: the architecture.
        members: N.
    """

    network: Any
    members: int

    def init(self, key: Any, image_shape: tuple[int, int, int]) -> Any:
        """Parameters, every leaf with a leading axis N."""
        import jax

        return jax.vmap(lambda own: self.network.init(own, image_shape))(jax.random.split(key, self.members))

    def train(self, params: Any, images: Any) -> tuple[Any, Any]:
        """Logits (N, B, K), and parameters with their batch statistics updated."""
        import jax

        many = getattr(self.network, "stacked", self.network)
        return jax.vmap(many.train, (0, None))(params, images)


@dataclasses.dataclass(frozen=True)
class Misled:
    """Teaches a network to avoid the label, for `recovery.fit_semi`; other images play no part."""

    augment: Any = None

    def __call__(self, network: Any, params: Any, images: Any, targets: Any, others: Any, key: Any) -> Any:
        """The loss, and the parameters with their batch statistics."""
        import jax
        import jax.numpy as jnp

        from pp_jax.defenses import misinformation

        del others
        logits, updated = network.train(params, outliers.augmented(self.augment, key, images))
        return jnp.mean(jax.vmap(misinformation.loss)(logits, jnp.argmax(targets, axis=-1))), updated


@dataclasses.dataclass(frozen=True)
class Diverse:
    """Teaches an `Ensemble` the labels, and to disagree on outliers, for `recovery.fit_semi`.

    L = Σ_i CE(t, softmax(z_i)) + weight · mean over outliers of log Σ_{i<j} exp cos(f_i, f_j)

    Attributes:
        weight: of the second term.
        augment: (key, image) to image, for the victim's own data; hashable.
    """

    weight: float = DIVERSITY_WEIGHT
    augment: Any = None

    def __call__(self, network: Ensemble, params: Any, images: Any, targets: Any, others: Any, key: Any) -> Any:
        """The loss, and the parameters with the batch statistics of the victim's own data."""
        import jax
        import jax.numpy as jnp

        from pp_jax.defenses import diverse
        from pp_jax.training import soft_cross_entropy

        logits, updated = network.train(params, outliers.augmented(self.augment, key, images))
        foreign = jax.nn.softmax(network.train(params, others)[0])
        apart = jnp.mean(jax.vmap(diverse.diversity_loss, 1)(foreign))
        # A sum: each model moves by the gradient of its own cross-entropy.
        return jnp.sum(jax.vmap(soft_cross_entropy, (0, None))(logits, targets)) + self.weight * apart, updated


def members(ensemble: Ensemble, params: Any, images: Any) -> list[Any]:
    """Posteriors of each model, N of (B, K)."""
    import jax

    from pp_jax import metrics

    each = (jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(ensemble.members))
    return [metrics.predict(ensemble.network, one, images) for one in each]


def coherences(posteriors: list[Any]) -> Any:
    """The largest cosine between two models' posteriors, N of (B, K), on each image, (B,)."""
    import jax
    import jax.numpy as jnp

    from pp_jax.defenses import diverse

    return jax.vmap(diverse.coherence, 1)(jnp.stack(posteriors))
