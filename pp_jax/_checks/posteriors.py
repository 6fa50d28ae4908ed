"""Posteriors, and what an attacker makes of them: responses, soft labels."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from pp_jax._checks.arrays import as_array, is_text, is_whole, seen, span, wide
from pp_jax._checks.images import as_pixels, check_finite
from pp_jax._checks.labels import as_labels
from pp_jax.types import TransferSet

_REQUIREMENTS = ("must be finite", "must not be negative", "must sum to one")
_CURES = (
    "leave out rows with NaN or infinity",
    "write jax.nn.softmax(logits) for logits",
    "write jax.nn.softmax(logits) for logits, {name} / {name}.sum(-1, keepdims=True) for percent and other shares",
)


def as_posteriors(probs: Any, name: str = "posteriors") -> Any:
    """Posteriors as they are, and nested lists of them as an array; refused by shape or dtype, whatever their values.

    Raises:
        ValueError: naming shape or dtype.
    """
    array = as_array(probs, name)
    if np.ndim(array) != 2 or array.shape[-1] < 2:
        raise ValueError(f"{name} must have shape (B, K) with K ≥ 2, not {np.shape(array)}")
    if len(array) == 0:
        raise ValueError(f"{name} must be at least one, not {array.shape}")
    if not jnp.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name} must be floating point, not {array.dtype}; write np.asarray({name}, np.float32)")
    return array


def check_posteriors(probs: Any, name: str = "posteriors", *, normalised: bool = True) -> Any:
    """Refuse posteriors (B, K) that are not on the simplex; while they are traced, by shape and dtype alone.

    Args:
        probs: to be checked.
        name: how an error calls them.
        normalised: whether they must sum to one, as the responses of a truncation need not.

    Returns:
        As `as_posteriors`.

    Raises:
        ValueError: naming shape, dtype or how many rows break which requirement.
    """
    array = as_posteriors(probs, name)
    if (values := seen(array)) is not None:
        _report_host(values, name, normalised=normalised)
    return array


def violations(probs: Any, xp: Any = jnp) -> Any:
    """Count, per kind, the rows of (B, K) that are not posteriors: (not finite, negative, sum off); int32 in a program.

    A sum may be off by what rounding explains. Each entry of a softmax is off by half a unit in its last place, so that
    their sum is off by eps/2, and by eps where the normaliser was rounded as well, whatever K: 4 eps, or 1e-3.
    """
    eps = 0.0 if is_whole(probs.dtype) else float(jnp.finfo(probs.dtype).eps)
    values = probs.astype(wide(probs.dtype))
    finite = xp.isfinite(values).all(axis=-1)
    negative = (values < 0).any(axis=-1)
    off = xp.abs(xp.sum(xp.where(finite[..., None], values, 0), axis=-1) - 1) > max(1e-3, 4 * eps)
    return xp.stack([xp.sum(~finite), xp.sum(finite & negative), xp.sum(finite & ~negative & off)])


def sums_to_one(rows: Any) -> bool:
    """Whether all rows of (N, K) do, within rounding; those that are not finite or negative aside."""
    return not violations(np.asarray(rows), np)[2]


def report_violations(counts: Any, rows: int, *, what: str = "posteriors", found: str = "") -> None:
    """Raise the first error that `violations` counted among so many rows, if any.

    Raises:
        ValueError: naming the requirement and how many rows break it.
    """
    for count, requirement, cure in zip([int(c) for c in counts], _REQUIREMENTS, _CURES, strict=True):
        if count:
            # What somebody's defense returned is mended in the defense.
            end = "" if what.startswith("responses") else f"; {cure.format(name=what)}"
            raise ValueError(f"{what} {requirement}: {count} of {rows} rows do not{found}{end}")


def as_targets(
    targets: Any, *, shape: tuple[int, ...], classes: int | None, normalised: bool = True, name: str = "targets"
) -> Any:
    """Class indices or soft labels of images, as an array that a loss can be handed.

    Args:
        targets: class indices of `shape`, also with an axis of length 1 behind it, or soft labels (*shape, K).
        shape: (N,), or (T, n) of many sets.
        classes: K; None where it is not known.
        normalised: whether soft labels must sum to one.
        name: how an error calls them.

    Raises:
        ValueError: for text, another shape, labels out of range, soft labels that are no posteriors.
    """
    array = targets if is_text(targets) else as_array(targets, name)
    own = np.shape(array)
    if is_text(targets) or own == shape or (own == (*shape, 1) and is_whole(array.dtype)):
        return as_labels(array, shape=shape, classes=classes, name=name)
    if own[:-1] != shape or own[-1] < 2 or (classes is not None and own[-1] != classes):
        outputs = "K" if classes is None else classes
        known = "" if classes is None else f", as the network has {classes} classes"
        cure = f"; write {name}[..., 0].astype(int) for labels" if own[-1:] == (1,) else ""
        raise ValueError(
            f"{name} have shape {own}: must be class indices {shape} or soft labels {(*shape, outputs)}{known}{cure}"
        )
    if (values := seen(array)) is not None:
        _report_host(values.reshape(-1, own[-1]), name, normalised=normalised)
    return array


def check_answers(answers: Any, images: Any = None, name: str = "answers") -> None:
    """Refuse responses of a transfer set that are no posteriors, and images that are not theirs.

    Raises:
        ValueError: naming shape, dtype or how many rows break which requirement.
    """
    array = check_posteriors(answers, name)
    if images is not None and len(as_pixels(images)) != len(array):
        raise ValueError(f"images and answers must be as many: {len(images)} and {len(array)}")


def as_transfer(transfer: TransferSet) -> TransferSet:
    """A transfer set with arrays of as many images as responses, whatever these sum to.

    Raises:
        ValueError: for images or responses of another shape or dtype, numbers that differ, or NaN.
    """
    images, answers = as_pixels(transfer.images), as_array(transfer.answers, "answers")
    if np.ndim(answers) != 2 or answers.shape[1] < 2 or len(answers) != len(images):
        raise ValueError(
            f"answers have shape {np.shape(answers)}: must be ({len(images)}, K) with K ≥ 2, a row for each image"
        )
    check_finite(answers, "answers")
    return transfer._replace(images=images, answers=answers)


def check_rows(answers: Any) -> None:
    """Refuse responses that are labels, where a strategy looks at the probabilities of all classes.

    Raises:
        ValueError: naming their shape, and what to write.
    """
    if np.ndim(answers) != 2:
        raise ValueError(
            f"answers have shape {np.shape(answers)}: must be (B, K); for labels write lambda images: "
            "np.eye(K)[api(images)] as the API"
        )


def check_alike(first: Any, second: Any, names: tuple[str, str]) -> None:
    """Refuse two arrays (N, K) of different shapes, or of a rank that is not 2: nothing is broadcast.

    Raises:
        ValueError: naming both shapes.
    """
    one, two = np.shape(first), np.shape(second)
    if one != two or len(one) != 2 or 0 in one:
        raise ValueError(f"{names[0]} and {names[1]} must both be (N, K), not {one} and {two}")


def _report_host(values: np.ndarray, name: str, *, normalised: bool = True) -> None:
    """Raise what `violations` finds on the host, with the range of the sums or entries."""
    counts = violations(values, np)
    if not normalised:
        counts[2] = 0
    found = ""
    if counts[1] and not counts[0]:
        found = f" (their entries are {span(values)})"
    elif counts[2] and not counts[0]:
        found = f" (their sums are {span(values.astype(np.float64).sum(axis=-1))})"
    report_violations(counts, len(values), what=name, found=found)
