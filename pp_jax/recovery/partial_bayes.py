"""Partial Bayes: look a response up in a table of what the presumed defense does to posteriors (ModelGuard, 2024)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_answers, check_count, check_random_key
from pp_jax.defenses.composition import Chain
from pp_jax.geometry import simplex
from pp_jax.recovery import pairs, table
from pp_jax.recovery.inversion import invert_mad, raises_one_class
from pp_jax.recovery.knowledge import Knowledge, keys
from pp_jax.types import Defense, StatefulDefense, TransferSet

# So many pairs exist at once, and so many responses are compared with so many of them.
_TABLE, _ROWS, _COLUMNS = 1 << 16, 256, 4096


def partial_bayes(
    key: jax.Array,
    answers: Any,
    defense: Defense,
    *,
    images: Any = None,
    centres: Any = None,
    samples: int = 10**6,
    concentration: float = 8.0,
    radius: float = 0.01,
) -> np.ndarray:
    """The mean of the sampled posteriors that the presumed defense turns into (nearly) the same response.

    ŷ = mean{y_i : argmax ỹ_i = argmax ỹ, ‖ỹ − ỹ_i‖₁ ≤ max(radius, min_i ‖ỹ − ỹ_i‖₁)},   ỹ_i = defense(y_i),
    y_i ~ Dirichlet(concentration · K · ŷ⁰),   ŷ⁰ the centres

    Without images all responses share one table of `samples` pairs, drawn around the centres in turn: right for a
    defense that does not look at the image. With images each query has its own table of samples/N pairs, drawn around
    its own centre and answered for its own image: a surrogate's Gram matrix differs from image to image, and a pair
    made for one says nothing about another. A defense that moves far (MAD) takes the posteriors out of reach of a cloud
    around its responses: start from other centres, or call again with the result as centres.

    A response with whose top class no pair agrees is left as it is in the shared table, and takes the nearest pair of
    any top class in a table of its own. Never NaN.

    Args:
        key: randomness of the table.
        answers: ỹ, (N, K).
        defense: the defense that the attacker presumes.
        images: the queries, (N, H, W, C), where the defense looks at them.
        centres: ŷ⁰, where each posterior is thought to be, (N, K); the responses by default.
        samples: pairs in all.
        concentration: of the cloud around a centre, above 0.
        radius: of L1, above 0.

    Returns:
        Targets ŷ, (N, K), on the host.

    Raises:
        ValueError: for responses or centres off the simplex, numbers that do not fit, a number out of range, or a
            defense that needs images without any.

    Source: Tang et al., "ModelGuard", USENIX Security 2024 (the attack "Partial Bayes").
    """
    check_random_key(key)
    check_answers(answers, images)
    centres = answers if centres is None else centres
    check_answers(centres, name="centres")
    _check_numbers(np.shape(answers), np.shape(centres), samples, concentration, radius)
    pairs.check_defense(defense, images)
    answers, centres = (simplex.working(a) for a in (answers, centres))
    if images is not None:
        return _own_tables(key, defense, answers, centres, images, samples, concentration, radius)
    return _shared_table(key, defense, np.asarray(answers), centres, samples, concentration, radius)


def _shared_table(
    key: jax.Array,
    defense: Defense,
    answers: np.ndarray,
    centres: jax.Array,
    samples: int,
    concentration: float,
    radius: float,
) -> np.ndarray:
    """Estimates (N, K) from one table, made and forgotten in parts."""
    by_top = _by_top(answers.argmax(1))
    blocks = [(top, part) for top, rows in by_top.items() for part in _chunks(rows, _ROWS)]
    found = [table.empty(jnp.asarray(answers[rows])) for _, rows in blocks]
    for number, first in enumerate(range(0, samples, _TABLE)):
        draw_key, push_key = jax.random.split(jax.random.fold_in(key, number))
        order = np.arange(first, min(first + _TABLE, samples)) % len(answers)
        probs = pairs.around(draw_key, centres[order], concentration=concentration)
        seen = pairs.pushed(push_key, defense, probs, None)
        columns = {top: _chunks(c, _COLUMNS) for top, c in _by_top(np.asarray(jnp.argmax(seen, axis=1))).items()}
        for index, (top, rows) in enumerate(blocks):
            for chosen in columns.get(top, ()):
                # Repeated to a full block: the repetitions would count twice in a mean.
                valid = np.concatenate([[True], np.diff(chosen) > 0])
                found[index] = table.match(found[index], answers[rows], probs[chosen], seen[chosen], valid, radius)
    estimates = np.empty_like(answers)
    for (_, rows), matches in zip(blocks, found, strict=True):
        estimates[rows] = np.asarray(table.estimates(matches))
    return estimates


def _own_tables(
    key: jax.Array,
    defense: Defense,
    answers: jax.Array,
    centres: jax.Array,
    images: Any,
    samples: int,
    concentration: float,
    radius: float,
) -> np.ndarray:
    """Estimates (N, K) from a table for each query, as many queries at a time as make up a part."""
    size = max(1, samples // len(answers))
    estimates = np.empty(answers.shape, answers.dtype)
    for number, rows in enumerate(_chunks(np.arange(len(answers)), max(1, min(len(answers), _TABLE // size)))):
        draw_key, push_key = jax.random.split(jax.random.fold_in(key, number))
        probs = pairs.around(draw_key, centres[np.repeat(rows, size)], concentration=concentration)
        probs = probs.reshape(len(rows), size, -1)
        seen = pairs.pushed_each(push_key, defense, probs, jnp.asarray(images[rows]))
        estimates[rows] = np.asarray(table.own_estimates(answers[rows], probs, seen, radius))
    return estimates


def _by_top(tops: np.ndarray) -> dict[int, np.ndarray]:
    """The rows of each top class, ascending."""
    return {int(top): np.flatnonzero(tops == top) for top in np.unique(tops)}


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Parts of one size, so that one program serves all: the last is filled up with its last row."""
    parts = [rows[first : first + size] for first in range(0, len(rows), size)]
    return [np.concatenate([part, np.full(size - len(part), part[-1])]) for part in parts]


def _check_numbers(
    answers: tuple[int, ...], centres: tuple[int, ...], samples: int, concentration: float, radius: float
) -> None:
    """Refuse centres of another shape and numbers out of range."""
    if centres != answers:
        raise ValueError(f"centres must be of the answers' shape {answers}, not {centres}")
    check_count("samples", samples, low=1)
    for name, value in (("concentration", concentration), ("radius", radius)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be above 0 and finite, not {value}")


@dataclasses.dataclass(frozen=True)
class PartialBayes:
    """Look responses up in a table of what the presumed defense does to posteriors (`partial_bayes`).

    Attributes:
        samples: pairs in the table.
    """

    samples: int = 10**6

    def applies_to(self, defense: Any) -> bool:
        """To every defense without memory; not to none."""
        return has_something_to_recover(defense)

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return the images with the estimated posteriors, (n, K)."""
        own, _ = keys(key)
        presumed = knowledge.presumed
        images = transfer.images if presumed.reads_image else None
        targets = partial_bayes(
            own, transfer.answers, presumed, images=images, centres=inverted(transfer.answers, presumed),
            samples=self.samples,
        )  # fmt: skip
        return transfer._replace(answers=targets)


def has_something_to_recover(defense: Any) -> bool:
    """Whether a defense changes responses, each by itself."""
    nothing = isinstance(defense, Chain) and not defense.defenses
    return not nothing and not isinstance(defense, StatefulDefense)


def inverted(responses: Any, presumed: Any) -> Any:
    """Where the clean posteriors of a line search lie, far from the responses; None where there is no inversion."""
    return invert_mad(responses, epsilon=presumed.epsilon) if raises_one_class(presumed) else None
