"""EDM, an ensemble of diverse models (Kariyappa, Prakash, Qureshi: "Protecting DNNs from theft using an ensemble of
diverse models", ICLR 2021), and the loss that makes it diverse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._validate import check_classes
from pp_jax.defenses.cards import Card
from pp_jax.geometry import simplex
from pp_jax.geometry.posteriors import posterior
from pp_jax.pytree import pytree
from pp_jax.types import LogitsFn, Params, Query


@pytree
@dataclasses.dataclass(frozen=True)
class EDM:
    """Answer with one of N models that agree on the victim's data and disagree elsewhere; a keyed hash picks which.

    ỹ = softmax(F_i(x)),   i = hash_key(x) ∈ {0, …, N − 1}

    The thief learns from a discontinuous mixture. The models take the victim's place: y is not looked at.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN for finite logits; one image has one model for ever, so that
    repeating a query tells nothing of the others. It promises no distance and does not keep the argmax of y: where the
    models disagree, the answer is one of theirs, whatever y is (one-hot, uniform, tied, denormal, K = 2).

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

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the answer for one posterior, (K,)."""
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


def _cosines(probs: jax.Array) -> jax.Array:
    """Cosines of all pairs of rows, (N(N − 1)/2,)."""
    if probs.ndim != 2 or len(probs) < 2:
        raise ValueError(f"the posteriors of an ensemble must be (N, K) with N ≥ 2, not {probs.shape}")
    unit = probs / jnp.sqrt(jnp.sum(probs**2, axis=-1, keepdims=True))
    first, second = np.triu_indices(len(probs), 1)
    return jnp.sum(unit[first] * unit[second], axis=-1)
