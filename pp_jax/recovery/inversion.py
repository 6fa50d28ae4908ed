"""MAD and EMMA undone: what an attacker who knows the rule and its budget learns of the clean posteriors."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pp_jax import _batching
from pp_jax._checks import check_answers, name_of
from pp_jax.defenses.emma import EMMA
from pp_jax.defenses.grad2 import GRAD2
from pp_jax.defenses.mad import MAD
from pp_jax.geometry import simplex
from pp_jax.geometry.distance import L1, check_budget
from pp_jax.recovery.knowledge import Knowledge
from pp_jax.recovery.transitions import anchor_transitions, invert_transitions
from pp_jax.solvers.heuristic import LineSearch
from pp_jax.solvers.optimal import MinInner
from pp_jax.types import Query, TransferSet

Prefer = Callable[[jax.Array], jax.Array]
"""How plausible an attacker takes a posterior (K,) for, a scalar; hashable."""

# Rounding of a response, in units in the last place at one: of the precision that it was computed in, and of its own.
_COMPUTED, _STORED = 16, 2


def purity(probs: jax.Array) -> jax.Array:
    """‖y‖₂²: victims are confident. (The largest entry alone guesses worse where several classes are likely.)"""
    return probs @ probs


def preimages(
    answer: jax.Array, *, epsilon: jax.Array | float, slack: jax.Array | float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """The posteriors that a move of L1 length ε towards a vertex turns into one response, one for each vertex.

    y_j = ỹ_j − ε/2,   y_k = ỹ_k (r_j + ε/2)/r_j for k ≠ j,   r_j = Σ_{k≠j} ỹ_k

    It is a posterior exactly where ỹ_j ≥ ε/2: there are at most 2/ε of them, and above ε = 1 at most one. Where
    r_j = 0 the response is e_j and all that is known of y is y_j ≥ 1 − ε/2 (derived in docs/theory.md).

    Args:
        answer: ỹ, (K,), on the simplex.
        epsilon: the budget of L1.
        slack: how far below ε/2 an entry may be, and how small r_j counts as zero.

    Returns:
        Row j the posterior if e_j was the target, (K, K), on the simplex; and which rows can be, (K,).

    Source: derived here from Orekondy et al. 2020, eqs. 4-7 with the line search of L1.
    """
    half = jnp.asarray(epsilon, answer.dtype) / 2
    target = jnp.eye(answer.shape[-1], dtype=bool)
    # A sum of the others, not 1 − ỹ_j: it is small just where all depends on it.
    rest = jnp.sum(jnp.where(target, 0, answer[None, :]), axis=1)
    possible = (answer >= half - slack) & (rest > slack)
    stretch = (rest + half) / jnp.where(possible, rest, 1)
    moved = jnp.where(target, jnp.maximum(answer - half, 0)[:, None], answer[None, :] * stretch[:, None])
    rows = jnp.where(possible[:, None], moved, answer[None, :])
    return rows / jnp.sum(rows, axis=1, keepdims=True), possible


def invert_mad(answers: Any, *, epsilon: float, prefer: Prefer = purity, rounding: float = 0.0) -> jax.Array:
    """The posteriors behind MAD's responses, for an attacker who knows ε but not the surrogate's weights.

    ŷ = the row of `preimages` that can be and is preferred; ỹ itself where none can be (the response is a vertex).

    Args:
        answers: ỹ of `MAD` with a vertex oracle and the distance L1, (N, K).
        epsilon: the budget that the attacker presumes.
        prefer: which of several posteriors is believed; the purest by default, `lambda y: prior @ y` for a class
            distribution.
        rounding: how far off an entry of a response may be, such as 0.005 where responses are shown to two decimals;
            that of the responses' precision is allowed for in any case.

    Returns:
        Targets ŷ, (N, K), float32 or, for float64 responses, float64.

    Raises:
        ValueError: for responses off the simplex, or a budget or rounding out of range.
    """
    check_answers(answers)
    check_budget(epsilon, L1())
    answers = jnp.asarray(answers)
    return _without_weights(answers, epsilon, _slack(answers, rounding), prefer)


def invert_known_mad(
    answers: Any,
    images: Any,
    defense: MAD,
    *,
    prefer: Prefer = purity,
    rounding: float = 0.0,
    batch_size: int | None = 500,
) -> jax.Array:
    """The posteriors behind MAD's responses, for an attacker who has the whole defense, surrogate weights included.

    ŷ = the row j of `preimages` with ‖MAD(y_j) − ỹ‖₁ < ε/4; `prefer` decides between several, or all if there is none.
    A row that the oracle would pull to another vertex is off by at least ε/2, so that rounding decides nothing.

    Args:
        answers: ỹ, (N, K).
        images: the queries, (N, H, W, C).
        defense: the defense as the attacker presumes it: a line search to a vertex under L1.
        prefer: which of several posteriors is believed.
        rounding: how far off an entry of a response may be.
        batch_size: answers on the device at once, None for all.

    Returns:
        Targets ŷ, (N, K).

    Raises:
        ValueError: for responses off the simplex or not as many as the images, another distance than L1, a solver other
            than the line search, or an oracle whose targets are no vertices or are drawn with the defender's key.
    """
    check_answers(answers, images)
    _check_defense(defense)
    answers = jnp.asarray(answers)
    return _with_weights(answers, jnp.asarray(images), defense, _slack(answers, rounding), prefer, batch_size)


def _slack(answers: jax.Array, rounding: float) -> float:
    """What rounding may have added to an entry of a response."""
    if not 0 <= rounding < 1:
        raise ValueError(f"rounding must be at least 0 and below 1, not {rounding}")
    computed = jnp.promote_types(answers.dtype, jnp.float32)
    own = max(_COMPUTED * float(jnp.finfo(computed).eps), _STORED * float(jnp.finfo(answers.dtype).eps))
    return max(own, rounding)


def _best(rows: jax.Array, possible: jax.Array, prefer: Prefer) -> jax.Array:
    """The preferred of the possible rows; the response itself (which impossible rows hold) if there is none."""
    scores = jax.vmap(prefer)(rows)
    return rows[jnp.argmax(jnp.where(possible, scores, -jnp.inf))]


def _blind(answers: jax.Array, epsilon: Any, slack: Any, prefer: Prefer) -> jax.Array:
    """All responses, by preference alone."""

    def one(answer: jax.Array) -> jax.Array:
        return _best(*preimages(answer, epsilon=epsilon, slack=slack), prefer)

    return jax.vmap(one)(simplex.working(answers))


def _informed(
    answers: jax.Array, images: jax.Array, defense: MAD, slack: Any, prefer: Prefer, batch_size: int | None
) -> jax.Array:
    """All responses, by what the defense would have done to each candidate."""

    def one(answer: jax.Array, image: jax.Array) -> jax.Array:
        # No oracle that draws gets here.
        query = Query(image, None)
        rows, possible = preimages(answer, epsilon=defense.epsilon, slack=slack)
        misses = jax.vmap(lambda y: L1()(defense(y, query), answer))(rows)
        consistent = possible & (misses < jnp.asarray(defense.epsilon, answer.dtype) / 4)
        return _best(rows, jnp.where(consistent.any(), consistent, possible), prefer)

    return _batching.each(one, batch_size, simplex.working(answers), images)


_without_weights = jax.jit(_blind, static_argnames="prefer")
_with_weights = jax.jit(_informed, static_argnames=("prefer", "batch_size"))


def _check_defense(defense: MAD) -> None:
    """Refuse what moves a posterior otherwise than towards a vertex that the attacker can work out."""
    if not isinstance(defense, MAD):
        raise ValueError(f"the defense must be MAD for the inversion, not {name_of(defense)}")
    if defense.distance != L1():
        raise ValueError(f"the distance must be L1 for the inversion, not {type(defense.distance).__name__}")
    if not isinstance(defense.solver, LineSearch):
        raise ValueError(f"the solver must be LineSearch for the inversion, not {type(defense.solver).__name__}")
    oracle = defense.solver.oracle
    if not oracle.vertex or oracle.random:
        name = name_of(oracle)
        raise ValueError(f"the oracle must name a vertex without the owner's key for the inversion, not {name}")


@dataclasses.dataclass(frozen=True)
class Inversion:
    """Invert MAD in closed form, knowing the rule and its budget but not the surrogate's weights (`invert_mad`).

    Exact for line searches in L1 towards a vertex. Minimum inner product and GRAD² raise one class by ε/2 as well, but
    take the mass from the others in turn, not in proportion: nearly inverted. EMMA's matrix is found from the responses
    (`anchor_transitions`) and inverted.
    """

    def applies_to(self, defense: Any) -> bool:
        """To MAD in L1 whose solver moves towards one class, to GRAD², unless they keep the top class, and to EMMA."""
        return raises_one_class(defense) or isinstance(defense, EMMA)

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with the inverted responses, (n, K)."""
        del key
        if isinstance(knowledge.presumed, EMMA):
            found = anchor_transitions(transfer.answers)
            return transfer._replace(answers=invert_transitions(transfer.answers, found))
        return transfer._replace(answers=invert_mad(transfer.answers, epsilon=knowledge.presumed.epsilon))


@dataclasses.dataclass(frozen=True)
class KnownWeightsInversion:
    """Invert MAD with the defender's own surrogate, EMMA with its matrix: the worst case of a leak, and a yardstick."""

    def applies_to(self, defense: Any) -> bool:
        """To MAD in L1 with a line search towards a vertex that needs no key, and to EMMA."""
        return isinstance(defense, EMMA) or (
            raises_one_class(defense)
            and isinstance(defense, MAD)
            and isinstance(defense.solver, LineSearch)
            and not defense.random
        )

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with the inverted responses, (n, K)."""
        del key
        if isinstance(knowledge.deployed, EMMA):
            return transfer._replace(answers=invert_transitions(transfer.answers, knowledge.deployed.matrix))
        return transfer._replace(answers=invert_known_mad(transfer.answers, transfer.images, knowledge.deployed))


def raises_one_class(defense: Any) -> bool:
    """Whether a defense moves a posterior by an L1 budget towards one class, whichever that is."""
    if isinstance(defense, GRAD2):
        return not defense.keep_argmax
    if not isinstance(defense, MAD) or not isinstance(defense.distance, L1):
        return False
    solver = defense.solver
    towards_vertex = isinstance(solver, LineSearch) and solver.oracle.vertex
    return towards_vertex or (isinstance(solver, MinInner) and not solver.keeps_argmax)
