"""Adversarial examples of any number of images, by one compiled program."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_labels, as_pixels, check_count, check_random_key
from pp_jax.attacks.evasion.gradient import Evasion
from pp_jax.types import LogitsFn, Params

_BATCH = 100


def craft(
    key: jax.Array,
    attack: Evasion,
    logits_fn: LogitsFn,
    params: Params,
    images: Any,
    labels: Any,
    *,
    batch_size: int = _BATCH,
) -> np.ndarray:
    """Adversarial examples of any number of images on the host, `batch_size` at a time.

    The randomness of image i is `fold_in(key, i)`: the batch size changes nothing.

    Args:
        key: randomness of the attack.
        attack: `FGSM`, `PGD`, `MimicryDescent`, or another `Evasion`.
        logits_fn: the network whose gradients are taken: the attacker's own, such as a stolen model.
        params: its parameters.
        images: (N, H, W, C), uint8 or floating point in [0, 1].
        labels: (N,) the classes to leave, or, where the attack is targeted, to reach.
        batch_size: images on the device at once; the last batch is filled up.

    Returns:
        (N, H, W, C), floating point in [0, 1].

    Raises:
        ValueError: for no key, a class or what JAX does not know as a pytree, pixels out of range, labels that are no
            classes of the network, or not as many.
    """
    check_random_key(key)
    check_count("batch_size", batch_size, low=1)
    if isinstance(attack, type) or jax.tree_util.all_leaves([attack]):
        name = attack.__name__ if isinstance(attack, type) else type(attack).__name__
        raise ValueError(f"attack is {name}: must be an instance of a class registered by pp_jax.pytree.pytree")
    images = as_pixels(images)
    classes = jax.eval_shape(logits_fn, params, images[0]).shape[-1]
    labels = np.asarray(as_labels(labels, shape=images.shape[:1], classes=classes))
    parts = []
    for first in range(0, len(images), batch_size):
        index = np.minimum(np.arange(first, first + batch_size), len(images) - 1)
        part = _crafted(key, attack, params, images[index], labels[index], index, logits_fn=logits_fn)
        parts.append(np.asarray(part)[: len(images) - first])
    return np.concatenate(parts)


@functools.partial(jax.jit, static_argnames="logits_fn")
def _crafted(
    key: jax.Array, attack: Any, params: Params, images: jax.Array, labels: jax.Array, index: jax.Array, *,
    logits_fn: Any,
) -> jax.Array:  # fmt: skip
    """The adversarial examples of one batch."""

    def one(image: jax.Array, label: jax.Array, number: jax.Array) -> jax.Array:
        return attack(jax.random.fold_in(key, number), logits_fn, params, image, label)

    return jax.vmap(one)(jnp.asarray(images), labels, index)
