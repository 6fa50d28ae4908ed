"""What a detector measures distances in: pixels, the victim's features, or a projection of either."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pp_jax.pytree import pytree

View = Callable[[jax.Array, jax.Array], jax.Array]
"""`view(image, features) -> (D,)`: an image (H, W, C) and the victim's features (F,) as one vector, float32."""


@pytree
@dataclasses.dataclass(frozen=True)
class Features:
    """The victim's features, h ∈ R^F: the input of its last layer."""

    def __call__(self, image: jax.Array, features: jax.Array) -> jax.Array:
        """Return h."""
        del image
        return features.astype(jnp.float32)


@pytree
@dataclasses.dataclass(frozen=True)
class Pixels:
    """The pixels in [0, 1], x ∈ R^(H·W·C)."""

    def __call__(self, image: jax.Array, features: jax.Array) -> jax.Array:
        """Return x."""
        del features
        scale = 255 if image.dtype == jnp.uint8 else 1
        return image.ravel().astype(jnp.float32) / scale


@pytree
@dataclasses.dataclass(frozen=True)
class Projected:
    """A random projection of another view, v ↦ Aᵀv, which keeps distances within a share of about √(8 ln n / d).

    It makes an account's memory small: d numbers a query in place of D.

    Attributes:
        view: of D numbers.
        matrix: A, (D, d).

    Source: Johnson, Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", 1984.
    """

    view: View
    matrix: jax.Array

    @classmethod
    def drawn(cls, key: jax.Array, view: View, *, of: int, to: int = 32) -> "Projected":
        """Draw A with entries of variance 1/d.

        Args:
            key: randomness, the defender's.
            view: what is projected.
            of: D, the length of its vectors.
            to: d.
        """
        return cls(view, jax.random.normal(key, (of, to)) / jnp.sqrt(to))

    def __call__(self, image: jax.Array, features: jax.Array) -> jax.Array:
        """Return Aᵀv."""
        return self.view(image, features) @ self.matrix
