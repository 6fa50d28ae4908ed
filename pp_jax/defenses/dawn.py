"""DAWN: a keyed share of the responses is wrong on purpose, and a copy that was trained on them repeats it.

Szyller, Atli, Marchal, Asokan: "DAWN: Dynamic Adversarial Watermarking of Neural Networks", ACM Multimedia 2021.
"""

import dataclasses

import jax
import jax.numpy as jnp

from pp_jax._checks import check_range
from pp_jax.defenses.cards import Card, Strength
from pp_jax.geometry import simplex
from pp_jax.pytree import pytree
from pp_jax.types import Query


@pytree
@dataclasses.dataclass(frozen=True)
class DAWN:
    """Exchange the top class with another one, for a share of the images that a keyed hash chooses.

    ỹ = y with entries k* and c exchanged if u < r_w, else y;   u uniform on [0, 1), c uniform over the classes ≠ k*

    Both draws come from the defender's key and the content of the image, so one image has one response for ever.
    `pp_jax.ownership.Ledger` keeps the images that were answered wrongly, and `pp_jax.ownership.LedgerMark` asks a
    suspect model about them. Of the published scheme the map that gives *near* images the same draw is left out: an
    attacker that changes one pixel of an image gets another draw, and may compare the two responses.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; ỹ has the entries of y in another order, so max ỹ = max y; never NaN;
    over keys the mean of ‖ỹ − y‖₁ is r_w · 2 mean_{c ≠ k*} (y_k* − y_c).

    | posterior, share | response |
    |---|---|
    | one-hot | itself, or the one-hot of another class |
    | uniform | y |
    | tied top classes | may be exchanged with one another: then nothing changes |
    | denormal entries | exchanged as others |
    | K = 2 | the two entries exchanged |
    | r_w = 0 | y |
    | r_w = 1 | every response is wrong |

    Attributes:
        share: r_w ∈ [0, 1] of wrong responses (published: about 0.005); a leaf.

    Raises:
        ValueError: for a share out of range; at the first call for fewer than two classes.
    """

    share: jax.Array | float = 0.005

    card = Card("DAWN", Strength("share", 0.0, 0.05), {"share": 0.005})
    random = True
    reads_image = False

    def __post_init__(self) -> None:
        """Check the share where it is known."""
        check_range("share", self.share, low=0, high=1)

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        probs = simplex.working(probs)
        classes = probs.shape[-1]
        if classes < 2:
            raise ValueError(f"DAWN needs at least 2 classes to exchange, not {classes}")
        whether, which = jax.random.split(query.key)
        top = simplex.first_top(probs)
        other = (top + jax.random.randint(which, (), 1, classes)) % classes
        exchanged = probs.at[top].set(probs[other]).at[other].set(probs[top])
        return jnp.where(jax.random.uniform(whether) < self.share, exchanged, probs)
