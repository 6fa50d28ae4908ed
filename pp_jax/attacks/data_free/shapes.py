"""Images that nobody owns: overlapping rectangles and discs in random shades."""

import math

import jax
import jax.numpy as jnp

_SHAPES = 12


def random_shapes(key: jax.Array, image_shape: tuple[int, ...], count: int) -> jax.Array:
    """Images (count, H, W, C) in [0, 1]: on a random shade, 12 rectangles and discs, the later over the earlier.

    Centres are uniform on the image, half widths and heights on [1/16, 1/4] of its sides, shades on [0, 1], all drawn
    for each image and shape alone; a shape is a disc with probability ½.

    Args:
        key: randomness.
        image_shape: (H, W, C).
        count: how many.

    Source: the synthetic images of DFMS-HL (Sanyal et al. 2022), there 50 small shapes, blurred.
    """
    return jax.vmap(lambda key: _image(key, image_shape))(jax.random.split(key, count))


def _image(key: jax.Array, image_shape: tuple[int, ...]) -> jax.Array:
    """One image."""
    height, width, channels = image_shape
    centre_key, size_key, shade_key, kind_key = jax.random.split(key, 4)
    centres = jax.random.uniform(centre_key, (_SHAPES, 2))
    halves = jax.random.uniform(size_key, (_SHAPES, 2), minval=1 / 16, maxval=1 / 4)
    shades = jax.random.uniform(shade_key, (_SHAPES + 1, channels))
    discs = jax.random.bernoulli(kind_key, 0.5, (_SHAPES, 1))
    rows, columns = (jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width
    places = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(1, -1, 2)
    offsets = jnp.abs(places - centres[:, None]) / halves[:, None]
    covered = jnp.where(discs, jnp.sum(offsets**2, axis=-1) <= 1, offsets.max(axis=-1) <= 1)
    # Shape i covers what those before it cover; 0 is the ground.
    order = jnp.arange(1, _SHAPES + 1)[:, None]
    top = jnp.max(jnp.where(covered, order, 0), axis=0)
    return shades[top].reshape(math.prod((height, width)), channels).reshape(height, width, channels)
