"""Defend a batch: the compiled edge around a defense, and around a victim with its defense."""

import contextlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from pp_jax import parallel
from pp_jax._batching import each
from pp_jax._checks import (
    as_images,
    as_posteriors,
    check_count,
    check_defense,
    check_forgetful,
    check_key,
    check_memory,
    check_response,
    images_outside,
    name_of,
    remembers,
    report_outside,
    report_violations,
    response_violations,
    violations,
)
from pp_jax.types import Defense, Query, State, StatefulDefense

__all__ = ["image_key", "perturb", "perturb_sequence"]


def perturb(
    defense: Defense,
    probs: jax.Array,
    images: jax.Array,
    *,
    key: jax.Array | None = None,
    batch_size: int | None = None,
    check: bool = True,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Answer a batch of posteriors through a defense, in one compiled program.

    ỹ_i = defense(y_i, Query(x_i, key_i)), key_i derived from `key` and the content of x_i: the same image gets the same
    answer in every batch and at every place in it (up to the rounding of the surrogate's forward pass, see
    docs/theory.md).

    Args:
        defense: any defense; its leaves (ε, surrogate weights) may change without a new compilation.
        probs: clean posteriors y, (B, K), floating point.
        images: the queried images, (B, H, W, C), uint8 or floating point in [0, 1].
        key: the defender's secret key (`jax.random.key`), needed by defenses that draw random numbers.
        batch_size: how many queries a device works on at once, to bound memory; all of them by default.
        check: look at the values (one small transfer to the host); shapes are always checked.
        mesh: the devices that share the rows (`parallel.data_mesh`); responses are the same up to rounding, and bit for
            bit if `batch_size` divides every device's rows (docs/clusters.md).

    Returns:
        Responses ỹ, (B, K), in float32 or, for float64 posteriors, float64.

    Raises:
        ValueError: for posteriors off the simplex, images of another rank, dtype, number or range, what is no defense
            (`types.Defense`), a random one without a key or one with a memory, responses of another shape or off the
            simplex, a surrogate with another number of classes, or a mesh without the axis "data".
    """
    parallel.check_mesh(mesh)
    check_defense(defense)
    check_forgetful(defense)
    probs, images = _questions(defense, probs, images, key)
    if batch_size is not None:
        check_count("batch_size", batch_size, low=1)
    if mesh is not None:
        probs, images = parallel.spread(mesh, probs, images)
    answers, broken = answered(defense, jnp.asarray(probs), images, key, batch_size=batch_size, mesh=mesh)
    if check:
        # Inside somebody's jit there are no values to look at.
        with contextlib.suppress(jax.errors.ConcretizationTypeError):
            broken.report(len(images), defense)
    return answers


class Broken(NamedTuple):
    """How many rows of a batch break which requirement; the defense is at fault last."""

    posteriors: jax.Array
    images: jax.Array
    responses: jax.Array

    def report(self, rows: int, defense: Any) -> None:
        """Raise the first error that was counted, if any."""
        report_outside(int(self.images), rows)
        report_violations(self.posteriors, rows)
        report_violations(self.responses, rows, what=f"responses of {name_of(defense)}")


def look(defense: Any, probs: jax.Array, images: jax.Array, responses: jax.Array) -> Broken:
    """Count what is wrong with posteriors, images and responses."""
    return Broken(violations(probs), images_outside(images), response_violations(defense, responses))


def _answered(
    defense: Defense,
    probs: jax.Array,
    images: jax.Array,
    key: jax.Array | None,
    *,
    batch_size: int | None,
    mesh: Mesh | None,
) -> tuple[jax.Array, Broken]:
    """Responses (B, K), and what was wrong with the questions."""

    def rows(shared: tuple[Defense, jax.Array | None], probs: jax.Array, images: jax.Array) -> jax.Array:
        defense, key = shared
        return each(lambda y, x: respond(defense, y, make_query(defense, key, x)), batch_size, probs, images)

    answers = parallel.over_rows(rows, mesh, (defense, key), probs, images)
    return answers, parallel.everywhere(mesh, look(defense, probs, images, answers))


def make_query(defense: Defense | StatefulDefense[Any], key: jax.Array | None, image: jax.Array) -> Query:
    """What a defense may know of one query; one that states that it does not draw gets no key to draw from.

    So a defense that draws without saying so stops, where it would otherwise draw from a key that everybody knows.
    """
    return Query(image, image_key(key, image) if defense.random and key is not None else None)


def respond(defense: Defense, probs: jax.Array, query: Query) -> jax.Array:
    """The response of a defense without memory to one posterior, (K,), of the shape that it must have."""
    return check_response(defense, defense(probs, query), probs)


answered = jax.jit(_answered, static_argnames=("batch_size", "mesh"))
# The same program, which writes its responses over the posteriors: for those that nobody else holds.
answered_in_place = jax.jit(_answered, static_argnames=("batch_size", "mesh"), donate_argnames="probs")


def perturb_sequence(
    defense: StatefulDefense[State],
    state: State,
    probs: jax.Array,
    images: jax.Array,
    *,
    key: jax.Array | None = None,
    check: bool = True,
) -> tuple[jax.Array, State]:
    """Answer queries one after the other through a defense with memory, in one compiled program.

    ỹ_i, s_i = defense(y_i, Query(x_i, key_i), s_{i−1}), key_i derived from `key` and the content of x_i. Cutting a
    sequence in two and passing the state on gives the same responses.

    Args:
        defense: any defense with memory; its leaves may change without a new compilation.
        state: the memory before the first query: `defense.init()`, or what an earlier call returned.
        probs: clean posteriors y in the order of the queries, (B, K), floating point.
        images: the queried images, (B, H, W, C), uint8 or floating point in [0, 1].
        key: the defender's secret key (`jax.random.key`), needed by defenses that draw random numbers.
        check: look at the values (one small transfer to the host); shapes are always checked.

    Returns:
        Responses ỹ, (B, K), and the memory after the last query.

    Raises:
        ValueError: as `perturb`, and for a defense without memory.
    """
    check_defense(defense)
    if not remembers(defense):
        raise ValueError(f"{name_of(defense)} has no memory: perturb answers for it")
    probs, images = _questions(defense, probs, images, key)
    answers, state, broken = _answered_in_order(defense, state, jnp.asarray(probs), jnp.asarray(images), key)
    if check:
        with contextlib.suppress(jax.errors.ConcretizationTypeError):
            broken.report(len(images), defense)
    return answers, state


@jax.jit
def _answered_in_order(
    defense: StatefulDefense[State], state: State, probs: jax.Array, images: jax.Array, key: jax.Array | None
) -> tuple[jax.Array, State, Broken]:
    """Responses (B, K), the memory after them, and what was wrong with the questions."""

    def step(state: State, row: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        y, x = row
        answer, after = defense(y, make_query(defense, key, x), state)
        check_memory(defense, state, after)
        return after, check_response(defense, answer, y)

    state, answers = jax.lax.scan(step, state, (probs, images))
    return answers, state, look(defense, probs, images, answers)


def _questions(defense: Defense | StatefulDefense[Any], probs: Any, images: Any, key: Any) -> tuple[Any, Any]:
    """Posteriors and images as arrays; refuses what can be seen to be wrong without looking at values."""
    probs, images = as_posteriors(probs), as_images(images)
    if len(probs) != len(images):
        raise ValueError(f"posteriors and images must be as many: {len(probs)} and {len(images)}")
    check_key(defense, key)
    return probs, images


def image_key(key: jax.Array, image: jax.Array) -> jax.Array:
    """A key for one image: `key` folded with a keyed 64-bit hash of the image's content.

    Equal images get equal keys, whoever asks and whenever; without `key` nobody can tell which images collide.
    """
    if image.dtype == jnp.uint8:
        words = image.astype(jnp.uint32).ravel()
    else:
        words = jax.lax.bitcast_convert_type(image.astype(jnp.float32), jnp.uint32).ravel()
    # A bijective mix (Murmur3's finaliser) first: a plain multiply-add would pass trailing zero bits on.
    words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
    words = words ^ (words >> 16)
    weights = jax.random.bits(key, (2, words.size), jnp.uint32) | jnp.uint32(1)
    low, high = (jnp.sum(words * row, dtype=jnp.uint32) for row in weights)
    return jax.random.fold_in(jax.random.fold_in(key, low), high)
