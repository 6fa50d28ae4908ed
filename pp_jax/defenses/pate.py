"""PATE (Papernot, Abadi, Erlingsson, Goodfellow, Talwar, ICLR 2017): noisy votes of teachers on disjoint data."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_classes, check_count, check_range
from pp_jax.defenses.cards import Card, Defender, NetworkSettings, Strength
from pp_jax.geometry import simplex
from pp_jax.pytree import pytree
from pp_jax.results.identity import describe
from pp_jax.training import Sets, fit_many
from pp_jax.types import LogitsFn, Params, Query

Noise = Literal["laplace", "gaussian"]
_ORDERS = np.concatenate([np.linspace(0.01, 1, 100), np.arange(1.1, 64, 0.1), np.arange(64, 4096, 8)])


@pytree
@dataclasses.dataclass(frozen=True)
class PATE:
    """Answer with what teachers vote, under noise that hides any single training image.

    n_k = number of teachers with argmax F_i(x) = k;  ỹ = max(n + e, 0)/Σ, or with `label` the one-hot at argmax(n + e)
    e_k ~ Lap(b), or N(0, b²)

    The noise comes from the defender's key and the image: a repeated query has one response, and costs privacy once.
    The teachers take the victim's place: y is not looked at.

    Guarantees: entries ≥ 0; |Σỹ − 1| ≤ 1e-6; never NaN; where all noisy votes are negative, the uniform posterior; a
    tie goes to the lower class. (`epsilon(queries)`, δ)-differential privacy of the training images, if each is in one
    teacher's data. It promises no distance to y (one-hot, uniform, tied, denormal, K = 2) and not its argmax. Privacy
    of images is no protection of the function: a student of the votes is what PATE is made for.

    Attributes:
        logits_fn: architecture of the teachers; static.
        teachers: their parameters, every leaf with a leading axis N (published: 250).
        scale: b ≥ 0 (published: 20 for 250 teachers); a leaf.
        label: answer with a label alone, as published; static.
        noise: static.

    Raises:
        ValueError: for a number out of range or other noise; at the first call for another number of classes.
    """

    logits_fn: LogitsFn = dataclasses.field(metadata={"static": True})
    teachers: Params
    scale: jax.Array | float = 1.0
    label: bool = dataclasses.field(default=False, metadata={"static": True})
    noise: Noise = dataclasses.field(default="laplace", metadata={"static": True})

    card = Card("PATE", Strength("scale", 0.0, 20.0), trained=True)
    random = True
    reads_image = True

    def __post_init__(self) -> None:
        """Check the parameters where they are known."""
        check_range("scale", self.scale, low=0, high=1e6)
        if self.noise not in get_args(Noise):
            raise ValueError(f"noise is {self.noise!r}: must be one of {', '.join(get_args(Noise))}")

    @classmethod
    def fitted(
        cls,
        defender: Defender,
        *,
        teachers: int = 10,
        scale: jax.Array | float = 1.0,
        label: bool = False,
        noise: Noise = "laplace",
        epochs: int = 4,
    ) -> PATE:
        """Train teachers on equal parts of the victim's data.

        Args:
            defender: the victim and its data.
            teachers: N, at least 2; 250 are published.
            scale: b; published: a twelfth of the number of teachers.
            label: answer with labels alone.
            noise: of the votes.
            epochs: passes of each teacher over its part, at least 1.

        Raises:
            ValueError: for more teachers than images.
        """
        check_count("teachers", teachers, low=2)
        check_count("epochs", epochs, low=1)
        images, labels = defender.training_set()
        each = len(images) // teachers
        if each < 1 and not defender.rehearsal:
            raise ValueError(f"teachers is {teachers}: must be at most {len(images)}, the number of training images")
        network = defender.network
        recipe = dataclasses.replace(defender.recipe, epochs=epochs, augment=None, privacy=None)
        keys = jax.random.split(jax.random.key(defender.seed), teachers)

        def make() -> tuple[Params, dict[str, Any]]:
            order = np.asarray(jax.random.permutation(jax.random.key(defender.seed), len(images)))
            rows = order[: teachers * each].reshape(teachers, each)
            sets = Sets(np.asarray(images), rows, np.asarray(labels)[rows])
            return fit_many(keys, network, sets, recipe), {}

        like = jax.eval_shape(lambda: jax.vmap(lambda key: network.init(key, defender.image_shape))(keys))
        settings = {"teachers": teachers, "epochs": epochs, "seed": defender.seed, "network": describe(network)}
        return cls(network, defender.keep(NetworkSettings("pate", settings), like, make), scale, label, noise)

    def presumed(self, key: jax.Array, network: Any, image_shape: tuple[int, int, int]) -> None:
        """Nothing: the teachers are the defender's."""
        del key, network, image_shape

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the response for one posterior, (K,)."""
        probs = simplex.working(probs)
        logits = jax.vmap(self.logits_fn, (0, None))(self.teachers, query.image)
        check_classes(logits.shape[-1], probs.shape[-1])
        votes = jnp.sum(jax.nn.one_hot(jnp.argmax(logits, axis=1), len(probs), dtype=probs.dtype), axis=0)
        draw = jax.random.laplace if self.noise == "laplace" else jax.random.normal
        noisy = votes + self.scale * draw(query.key, votes.shape, probs.dtype)
        if self.label:
            return jax.nn.one_hot(jnp.argmax(noisy), len(probs), dtype=probs.dtype)
        kept = jnp.maximum(noisy, 0)
        total = jnp.sum(kept)
        return jnp.where(total > 0, kept / jnp.where(total > 0, total, 1), 1 / len(probs))

    def epsilon(self, queries: int, *, delta: float = 1e-5) -> float:
        """The differential privacy of the training images after so many different queries.

        Replacing an image changes one teacher's vote, two counts by one each. With Laplace noise a response is
        2/b-private, and ε = min(2q/b, min_l [2q l(l + 1)/b² + ln 1/δ]/l); with Gaussian noise of Rényi order λ it is
        λ/b², and ε = min_λ [qλ/b² + ln(1/δ)/(λ − 1)]. What the votes were is not taken into account (the data-dependent
        bounds of the papers are smaller, and private themselves).

        Args:
            queries: q ≥ 1, of different images.
            delta: in (0, 1).

        Returns:
            ε; infinity without noise.

        Raises:
            ValueError: for a number out of range.

        Source: Papernot et al. 2017, theorem 2; Papernot et al., "Scalable private learning with PATE", ICLR 2018.
        """
        check_count("queries", queries, low=1)
        if not 0 < delta < 1:
            raise ValueError(f"delta must be above 0 and below 1, not {delta}")
        scale = float(self.scale)
        if scale == 0:
            return float("inf")
        if self.noise == "gaussian":
            return float(np.min(queries * (1 + _ORDERS) / scale**2 + np.log(1 / delta) / _ORDERS))
        moments = 2 * queries * (_ORDERS + 1) / scale**2 + np.log(1 / delta) / _ORDERS
        return float(min(2 * queries / scale, np.min(moments)))
