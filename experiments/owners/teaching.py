"""What an ensemble of networks predicts, and how much its members agree."""

from typing import Any

DIVERSITY_WEIGHT = 1.0
"""Of the diversity loss beside the cross-entropies of EDM's models."""


def members(ensemble: Any, params: Any, images: Any) -> list[Any]:
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
