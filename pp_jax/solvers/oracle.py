"""The oracles of MAD: each names the point y* of the simplex towards which the posterior is pulled.

Signature: `oracle(probs, gram, *, objective, key) -> y*`, one posterior (K,), a Gram operator or matrix (K, K); the
contract is `types.Oracle`, and `declare` makes one of a function by stating its traits.
`extreme` and `argmax_preserving` maximise the objective, the other two are the paper's ablations. Each is followed by a
line search (`pp_jax.solvers.LineSearch`).

Where the clean gradient is zero (Gᵀy = 0, for example a surrogate that equals the victim) the angle is undefined and
every direction is as good as any other: there the oracles fall back on the unnormalised objective ‖Gᵀ(z − y)‖², which
is defined everywhere.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.gram.operator import Gram, as_operator
from pp_jax.solvers import objective as objectives

Objective = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

# The top class of an argmax-preserving candidate is weighted up by this, so that it wins the tie with its companions.
TOP_MARGIN = 1e-5
# All subsets are tried up to this many classes; above, they are grown greedily.
ENUMERATED_CLASSES = 16
# Greedy growth ends with the round in which this many candidates have been tried.
GREEDY_CANDIDATES = 1024


@dataclasses.dataclass(frozen=True)
class Declared:
    """A function together with its traits: an oracle, made by `declare`.

    Attributes:
        function: `function(probs, gram, *, objective, key) -> y*`.
        keeps_argmax: whether y* has its first maximum at the top class of y.
        random: whether y* depends on `key`.
        vertex: whether y* is always a one-hot.
        takes_step: whether the function accepts `step`.
    """

    function: Callable[..., jax.Array]
    keeps_argmax: bool
    random: bool
    vertex: bool
    takes_step: bool

    def __post_init__(self) -> None:
        """Take over the function's name, docstring and signature."""
        for attribute in functools.WRAPPER_ASSIGNMENTS:
            if attribute in dir(self.function):
                object.__setattr__(self, attribute, getattr(self.function, attribute))
        object.__setattr__(self, "__wrapped__", self.function)

    def __call__(self, probs: jax.Array, gram: Gram | jax.Array, **options: Any) -> jax.Array:
        """Return y* ∈ Δ^K, (K,)."""
        return self.function(probs, gram, **options)

    def __reduce__(self) -> Any:
        """Pickle by name where the name stands for this value, as functions are; by its parts elsewhere."""
        name = self.__dict__.get("__qualname__", "")
        home = sys.modules.get(self.__dict__.get("__module__", ""))
        if home is not None and home.__dict__.get(name) is self and home.__name__ != "__main__":
            return name
        return Declared, (self.function, self.keeps_argmax, self.random, self.vertex, self.takes_step)


def declare(
    *, keeps_argmax: bool, random: bool, vertex: bool = False, takes_step: bool = False
) -> Callable[[Callable[..., jax.Array]], Declared]:
    """Make an oracle of a function: a decorator that states the function's traits.

        @oracle.declare(keeps_argmax=False, random=False, vertex=True)
        def runner_up(probs, gram, *, objective, key):
            return jax.nn.one_hot(jnp.argsort(probs)[-2], len(probs))

    A solver promises what its oracle states, and no more: `keeps_argmax=True` promises that y* has its first maximum at
    the top class of y. A function that draws without stating `random=True` finds no key.

    Args:
        keeps_argmax: whether the top class of y is on top of y*.
        random: whether it draws with `key`.
        vertex: whether it always names a one-hot; the inversion of MAD relies on it.
        takes_step: whether it accepts `step`, as `extreme` does; `interpolate_first` needs it.

    Returns:
        A decorator for `function(probs, gram, *, objective, key) -> y*`.
    """
    return functools.partial(Declared, keeps_argmax=keeps_argmax, random=random, vertex=vertex, takes_step=takes_step)


@declare(keeps_argmax=False, random=False, vertex=True, takes_step=True)
def extreme(
    probs: jax.Array,
    gram: Gram | jax.Array,
    *,
    objective: Objective = objectives.angular,
    key: jax.Array | None = None,
    step: jax.Array | float = 1.0,
) -> jax.Array:
    """The best one-hot: y* = e_k with k = argmax_k objective(e_k), first index on ties.

    All K candidates cost one product M y: yᵀMe_k = (My)_k and e_kᵀMe_k = M_kk.

    Args:
        probs: clean posterior y, (K,).
        gram: M, an operator or a matrix (K, K).
        objective: `objective.angular` or `objective.inner`.
        key: not used.
        step: how far towards e_k a candidate is judged, a scalar or (K,): 1 at the vertex itself (the paper), the line
            search's α_k where it would end.

    Returns:
        A vertex of the simplex, (K,).
    """
    del key
    gram = as_operator(gram)
    image = gram.apply(probs)
    clean = gram.quadratic(probs)
    stay = 1 - step
    cross = stay * clean + step * image
    candidate = stay**2 * clean + 2 * stay * step * image + step**2 * gram.diagonal()
    best = jnp.argmax(_judge(objective, cross, candidate, clean))
    return jax.nn.one_hot(best, probs.shape[-1], dtype=probs.dtype)


@declare(keeps_argmax=True, random=False)
def argmax_preserving(
    probs: jax.Array, gram: Gram | jax.Array, *, objective: Objective = objectives.angular, key: jax.Array | None = None
) -> jax.Array:
    """The best uniform distribution over a set of classes that contains the top class of y.

    y* ∝ 1_S + 1e-5·e_top with top = argmax y ∈ S: all 2^(K−1) sets up to K = 16; above, S grows greedily by the class
    that serves the objective best, and the best set met on the way is returned (Orekondy et al. 2020, appendix).

    Args:
        probs: clean posterior y, (K,).
        gram: M, an operator or a matrix (K, K).
        objective: `objective.angular` or `objective.inner`.
        key: not used.

    Returns:
        A point of the simplex, (K,), whose first maximum is the top class of y.
    """
    del key
    search = _enumerate if probs.shape[-1] <= ENUMERATED_CLASSES else _grow
    return search(probs, as_operator(gram), objective)


@declare(keeps_argmax=False, random=True, vertex=True)
def random_vertex(
    probs: jax.Array, gram: Gram | jax.Array, *, objective: Objective = objectives.angular, key: jax.Array | None = None
) -> jax.Array:
    """A one-hot drawn uniformly with `key`; it asks nothing of the surrogate.

    Raises:
        ValueError: without a key.
    """
    del gram, objective
    if key is None:
        raise ValueError("random_vertex draws a class: it needs a key, not None")
    classes = probs.shape[-1]
    return jax.nn.one_hot(jax.random.randint(key, (), 0, classes), classes, dtype=probs.dtype)


@declare(keeps_argmax=False, random=False, vertex=True)
def least_likely(
    probs: jax.Array, gram: Gram | jax.Array, *, objective: Objective = objectives.angular, key: jax.Array | None = None
) -> jax.Array:
    """The one-hot at argmin y, first index on ties; it asks nothing of the surrogate."""
    del gram, objective, key
    return jax.nn.one_hot(jnp.argmin(probs), probs.shape[-1], dtype=probs.dtype)


def _judge(objective: Objective, cross: jax.Array, candidate: jax.Array, clean: jax.Array) -> jax.Array:
    """The objective of candidates, the unnormalised one where the clean gradient is zero."""
    return jnp.where(clean > 0, objective(cross, candidate, clean), objectives.inner(cross, candidate, clean))


def _subsets(size: int) -> np.ndarray:
    """The 2^size indicator rows of the subsets of `size` elements, (2^size, size)."""
    return ((np.arange(2**size)[:, None] >> np.arange(size)) & 1).astype(np.float32)


def _enumerate(probs: jax.Array, gram: Gram, objective: Objective) -> jax.Array:
    """Try every set. A set is a low half (with the top class) and a high half, whose parts are shared by all pairs.

    1_SᵀM1_S = 1_AᵀM1_A + 1_BᵀM1_B + 2·1_AᵀM1_B for S = A ∪ B: 2^(K/2) quadratic forms and one thin matrix product stand
    for 2^(K−1) quadratic forms.
    """
    classes = probs.shape[-1]
    top = jnp.argmax(probs)
    # Exchanging class 0 and the top class makes the candidates a constant of the program.
    order = jnp.arange(classes).at[top].set(0).at[0].set(top)
    split = 1 + (classes - 1) // 2
    low = np.concatenate([np.ones((2 ** (split - 1), 1), np.float32), _subsets(split - 1)], axis=1)
    high = _subsets(classes - split)
    lows, highs = jnp.asarray(low, probs.dtype).at[:, 0].add(TOP_MARGIN), jnp.asarray(high, probs.dtype)

    matrix = gram.matrix()[order][:, order]
    image = gram.apply(probs)[order]
    within_low = jnp.sum((lows @ matrix[:split, :split]) * lows, axis=1)
    within_high = jnp.sum((highs @ matrix[split:, split:]) * highs, axis=1)
    between = lows @ matrix[:split, split:] @ highs.T
    weight = 1 / (jnp.sum(lows, axis=1)[:, None] + jnp.sum(highs, axis=1)[None, :])
    cross = weight * ((lows @ image[:split])[:, None] + (highs @ image[split:])[None, :])
    candidate = weight**2 * (within_low[:, None] + within_high[None, :] + 2 * between)
    clean = gram.quadratic(probs)
    values = _judge(objective, cross, jnp.maximum(candidate, 0), clean)
    # By rows, with the same tie rule: one argmax over all pairs would take most of the oracle's time on a CPU.
    row = jnp.argmax(jnp.max(values, axis=1))
    column = jnp.argmax(values[row])
    members = jnp.concatenate([lows[row], highs[column]])
    return (members / jnp.sum(members))[order]


def _greedy_rounds(classes: int) -> int:
    """How many classes the greedy search adds: until it has tried `GREEDY_CANDIDATES`, or has no class left."""
    tried = np.cumsum(np.arange(classes - 1, 0, -1))
    return min(classes - 1, 1 + int(np.searchsorted(tried, GREEDY_CANDIDATES)))


def _grow(probs: jax.Array, gram: Gram, objective: Objective) -> jax.Array:
    """Grow the set one class a round, a rank-one update of its quadratic form each, and keep the best set met."""
    classes = probs.shape[-1]
    top = jax.nn.one_hot(jnp.argmax(probs), classes, dtype=probs.dtype)
    image, clean, diagonal = gram.apply(probs), gram.quadratic(probs), gram.diagonal()
    start = (1 + TOP_MARGIN) * top

    def add_one(carry: Any, _: None) -> Any:
        members, product, form, cross, best_value, best = carry
        total = jnp.sum(members) + 1
        forms = form + 2 * product + diagonal
        crosses = cross + image
        values = _judge(objective, crosses / total, jnp.maximum(forms, 0) / total**2, clean)
        index = jnp.argmax(jnp.where(members > 0, -jnp.inf, values))
        members = members + jax.nn.one_hot(index, classes, dtype=probs.dtype)
        better = values[index] > best_value
        best = jnp.where(better, members, best)
        best_value = jnp.where(better, values[index], best_value)
        return (members, product + gram.column(index), forms[index], crosses[index], best_value, best), None

    carry = (start, gram.apply(start), gram.quadratic(start), start @ image, jnp.full((), -jnp.inf, probs.dtype), start)
    (*_, best), _ = jax.lax.scan(add_one, carry, length=_greedy_rounds(classes))
    return best / jnp.sum(best)
