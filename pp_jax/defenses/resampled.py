"""Resampled: a real posterior of a class drawn at random in place of the query's own, of which it says nothing."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.defenses.cards import Card, Defender
from pp_jax.geometry import simplex
from pp_jax.pytree import pytree
from pp_jax.types import Query

STORED_IMAGES = 5000
"""Training images whose posteriors are stored, at most."""


@pytree
@dataclasses.dataclass(frozen=True)
class Resampled:
    """Respond with a stored posterior of a class drawn at random.

    ỹ = stored[c, m],   c uniform over all classes,   m uniform

    The draw depends on the defender's key and the image alone, so a repeated query has one response. It costs a benign
    user the whole answer: meant for queries that a detector or an OOD detector has flagged, not for all.

    One response in K has the true class. Never to give it would be a leak: an attacker that learns from complementary
    labels makes something of it (`GatedResampled` with "other"; docs/results/new_defenses.md).

    Guarantees: on the simplex, as the stored rows are; independent of y, given the key and the image.

    Attributes:
        stored: M posteriors of each class, (K, M, K).

    Source: a conditional GAN's outputs in han-x-z's "On Optimal Disruption"; real posteriors here.
    """

    stored: jax.Array

    card = Card("resampled", trained=False)
    random = True
    reads_image = False

    @classmethod
    def fitted(cls, defender: Defender, *, each: int = 64) -> "Resampled":
        """Store the victim's posteriors of its training images, `each` of every predicted class, with repetition."""
        if defender.rehearsal:
            return cls(jnp.eye(defender.classes)[:, None, :])
        images = jnp.asarray(defender.training_set()[0][:STORED_IMAGES])
        logits = jax.jit(lambda x: jax.lax.map(lambda i: defender.network(defender.params, i), x, batch_size=250))
        return cls.of(np.asarray(jax.nn.softmax(logits(images))), each=each)

    @classmethod
    def of(cls, probs: Any, *, each: int = 64) -> "Resampled":
        """Store `each` of the posteriors (N, K) of every predicted class, with repetition where there are fewer.

        Raises:
            ValueError: for a class that is never predicted.
        """
        rows = np.asarray(probs, np.float32)
        top = rows.argmax(axis=1)
        groups = [rows[top == label] for label in range(rows.shape[1])]
        missing = [label for label, group in enumerate(groups) if len(group) == 0]
        if missing:
            raise ValueError(f"every class must be predicted for some posterior, but {missing} are not")
        return cls(jnp.asarray(np.stack([np.resize(group, (each, rows.shape[1])) for group in groups])))

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        classes, each, _ = self.stored.shape
        which, row = jax.random.split(query.key)
        label = jax.random.randint(which, (), 0, classes)
        return self.stored[label, jax.random.randint(row, (), 0, each)].astype(simplex.working(probs).dtype)
