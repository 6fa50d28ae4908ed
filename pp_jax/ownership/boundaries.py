"""How far images lie from a model's decision boundaries: by gradients where its weights are known, else by walking."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import as_pixels, check_count, check_range, name_of
from pp_jax.ownership.contracts import Model, Suspect, answers_of
from pp_jax.types import LogitsFn, Params

NORMS = ("l1", "l2", "linf")


@dataclasses.dataclass(frozen=True)
class MinimalDistances:
    """White box: the distance to each class by gradient steps, in three norms, MinAD of the paper.

    x ← clip(x + α · direction_p(∇_x (z_c − max z))) until argmax z = c; ‖x − x₀‖_p.
    direction: the sign (L∞), the unit gradient (L2), the sign on the k largest entries that can still move, by 1/k (L1)

    A class that is not reached counts with the distance that was walked; the model's own class is at 0. Distances are
    sorted within each norm, so that it does not matter which class is near.

    Attributes:
        steps: at most (published: 500).
        l1: α of a step (published: 1.0).
        l2: (published: 0.01).
        linf: (published: 0.001).
        entries: k (published: 100), at most as many as an image has.

    Raises:
        ValueError: for a number out of range; when called, for a suspect whose weights are not known.
    """

    steps: int = 500
    l1: float = 1.0
    l2: float = 0.01
    linf: float = 0.001
    entries: int = 100

    def __post_init__(self) -> None:
        """Check every number."""
        check_count("steps", self.steps, low=1)
        check_count("entries", self.entries, low=1)
        for name in NORMS:
            check_range(name, getattr(self, name), low=0, high=float("inf"), open_low=True)

    def __call__(self, suspect: Suspect, images: Any, classes: int) -> np.ndarray:
        """Distances, (N, 3 K): L1, L2, L∞, each from the nearest class to the farthest."""
        if not isinstance(suspect, Model):
            raise ValueError(
                f"MinimalDistances follows gradients: the suspect must be Model(network, params), not "
                f"{name_of(suspect)}; BlindWalk needs answers alone"
            )
        images = _floating(images)
        answers_of(suspect, images[:1], classes)
        parts = [
            np.asarray(_distances(suspect.params, jnp.asarray(images[i : i + 50]), self, suspect.network, classes))
            for i in range(0, len(images), 50)
        ]
        return np.sort(np.concatenate(parts), axis=2).reshape(len(images), -1)


@functools.partial(jax.jit, static_argnames=("how", "network", "classes"))
def _distances(params: Params, images: jax.Array, how: MinimalDistances, network: LogitsFn, classes: int) -> jax.Array:
    """Distances of each image in each norm to each class, (B, 3, K)."""

    def one(image: jax.Array, target: jax.Array) -> jax.Array:
        moves: list[tuple[Callable[..., jax.Array], float]] = [
            (functools.partial(_steepest, entries=min(how.entries, image.size)), how.l1),
            (lambda g, x: g / jnp.maximum(jnp.linalg.norm(g.ravel()), 1e-12), how.l2),
            (lambda g, x: jnp.sign(g), how.linf),
        ]

        def margin(x: jax.Array) -> jax.Array:
            logits = network(params, x)
            return logits[target] - jnp.max(logits)

        def walked(direction: Callable[..., jax.Array], size: float) -> jax.Array:
            def step(_: Any, x: jax.Array) -> jax.Array:
                value, slope = jax.value_and_grad(margin)(x)
                return jnp.where(value < 0, jnp.clip(x + size * direction(slope, x), 0, 1), x)

            return jnp.abs(jax.lax.fori_loop(0, how.steps, step, image) - image)

        apart = [walked(*move) for move in moves]
        return jnp.stack([jnp.sum(apart[0]), jnp.sqrt(jnp.sum(apart[1] ** 2)), jnp.max(apart[2])])

    each = jax.vmap(jax.vmap(one, (None, 0), 1), (0, None))
    return each(images, jnp.arange(classes))


def _steepest(slope: jax.Array, image: jax.Array, *, entries: int) -> jax.Array:
    """The step of L1 length at most 1 along the largest entries that can still move."""
    free = jnp.where(slope > 0, image < 1, image > 0)
    strength = jnp.where(free, jnp.abs(slope), 0).ravel()
    least = jax.lax.top_k(strength, entries)[0][-1]
    chosen = (strength >= jnp.maximum(least, jnp.finfo(strength.dtype).tiny)).reshape(image.shape)
    return jnp.where(chosen, jnp.sign(slope), 0) / entries


@dataclasses.dataclass(frozen=True)
class BlindWalk:
    """Black box: how many times a random direction must be walked before the suspect's label changes.

    δ = clip(t · noise), t = 1, 2, …, until argmax f(x + δ) ≠ argmax f(x); ‖δ‖_p.
    noise: Laplace (L1), normal (L2), uniform (L∞), each drawn anew `draws` times, the same for every suspect

    A walk that changes nothing counts with its last distance. It needs labels alone, and up to 3 · draws · steps + 1
    queries an image. Distances are sorted within each norm.

    Attributes:
        steps: t at most (published: 50).
        draws: directions of each kind (published: 10).
        laplace: scale of the noise (published: 0.01).
        normal: standard deviation (published: 0.005).
        uniform: half the width (published: 0.005).
        seed: of the noise.

    Raises:
        ValueError: for a number out of range.
    """

    steps: int = 50
    draws: int = 10
    laplace: float = 0.01
    normal: float = 0.005
    uniform: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every number."""
        check_count("steps", self.steps, low=1)
        check_count("draws", self.draws, low=1)
        for name in ("laplace", "normal", "uniform"):
            check_range(name, getattr(self, name), low=0, high=float("inf"), open_low=True)

    def __call__(self, suspect: Suspect, images: Any, classes: int) -> np.ndarray:
        """Distances, (N, 3 · draws): L1, L2, L∞, each from the nearest to the farthest."""
        images = _floating(images)
        own = answers_of(suspect, images, classes).argmax(axis=1)
        rng, shape = np.random.default_rng(self.seed), (self.draws, *images.shape[1:])
        noise = np.stack(
            [
                rng.laplace(0, self.laplace, shape),
                rng.normal(0, self.normal, shape),
                rng.uniform(-self.uniform, self.uniform, shape),
            ]
        ).astype(np.float32)
        walks = np.stack(np.meshgrid(*map(np.arange, (len(images), 3, self.draws)), indexing="ij"), axis=-1)
        left = walks.reshape(-1, 3)
        found = np.zeros((len(images), 3, self.draws), np.float32)
        for count in range(1, self.steps + 1):
            before = images[left[:, 0]]
            after = np.clip(before + count * noise[left[:, 1], left[:, 2]], 0, 1)
            apart = np.abs(after - before).reshape(len(left), -1)
            norms = np.stack([apart.sum(axis=1), np.sqrt((apart**2).sum(axis=1)), apart.max(axis=1)], axis=1)
            found[tuple(left.T)] = norms[np.arange(len(left)), left[:, 1]]
            same = answers_of(suspect, after, classes).argmax(axis=1) == own[left[:, 0]]
            left = left[same]
            if not len(left):
                break
        return np.sort(found, axis=2).reshape(len(images), -1)


def _floating(images: Any) -> np.ndarray:
    """Images in [0, 1], float32."""
    array = np.asarray(as_pixels(images))
    return array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
