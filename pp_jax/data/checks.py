"""What is checked of the arrays of a source before a set is written."""

import dataclasses
from collections import Counter

import numpy as np

from pp_jax.data.phrases import shown
from pp_jax.data.spec import Spec
from pp_jax.data.types import DatasetCorrupt, Raw


def normalise(spec: Spec, raw: Raw, *, whole: bool) -> tuple[Raw, tuple[str, ...]]:
    """Check the arrays of a source: splits, counts, shape, dtype and label range.

    Args:
        spec: what is known about the set.
        raw: the arrays.
        whole: whether the set must be complete, as an official download must.

    Returns:
        The arrays with int32 labels, and the class names, each of them once.

    Raises:
        DatasetCorrupt: naming what is wrong.
    """
    if not raw.splits:
        raise DatasetCorrupt(f"there are no images for {spec.name}")
    if spec.counts is not None and (whole or not spec.partial):
        _check_counts(spec, {split: len(labels) for split, (_, labels) in raw.splits.items()})
    class_names = _printable(raw.class_names or spec.class_names or _numbered(raw))
    shapes = {images.shape[1:] for images, _ in raw.splits.values()}
    if len(shapes) > 1:
        raise DatasetCorrupt(f"the splits of {spec.name} differ in image shape: {sorted(shapes)}")
    splits = {
        split: (_images(spec, split, images), _labels(spec, split, len(images), labels, len(class_names)))
        for split, (images, labels) in raw.splits.items()
    }
    return dataclasses.replace(raw, splits=splits, class_names=class_names), _unique(class_names)


def _check_counts(spec: Spec, found: dict[str, int]) -> None:
    """Compare the counts with those of the whole set."""
    expected = dict(spec.counts or {})
    for split, count in expected.items():
        if split not in found and split not in spec.optional:
            raise DatasetCorrupt(
                f"{spec.name} has a split {split!r} of {count} images, but the source has only {', '.join(found)}"
            )
    for split, count in found.items():
        if count != expected.get(split, 0):
            raise DatasetCorrupt(
                f"{spec.name} {split} has {expected.get(split, 0)} images, but the source holds {count}: "
                "a part of the set is not stored under the name of the whole"
            )


def _images(spec: Spec, split: str, images: np.ndarray) -> np.ndarray:
    """Images of the set's own shape and dtype."""
    fits = images.ndim == 4 and all(
        want in (None, have) for want, have in zip(spec.shape, images.shape[1:], strict=True)
    )
    if not fits or images.dtype != np.uint8:
        want = "×".join("any" if side is None else str(side) for side in spec.shape)
        cure = "; nothing is resized unasked: choose a size with --size" if spec.resizable else ""
        raise DatasetCorrupt(
            f"{spec.name} {split} must be uint8 images of {want}, not {images.dtype} {images.shape}{cure}"
        )
    return images


def _labels(spec: Spec, split: str, count: int, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels as int32, one per image, each with a class name."""
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise DatasetCorrupt(f"{spec.name} {split} must have {count} integer labels, not {labels.dtype} {labels.shape}")
    if count and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DatasetCorrupt(
            f"labels of {spec.name} {split} must lie in 0..{num_classes - 1}, not {labels.min()}..{labels.max()}"
        )
    return labels.astype(np.int32)


def _numbered(raw: Raw) -> tuple[str, ...]:
    """Numbers as class names, where a source gives none."""
    top = max((int(labels.max()) for _, labels in raw.splits.values() if len(labels)), default=-1)
    return tuple(str(label) for label in range(top + 1))


def _printable(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Class names of one line each: TFDS keeps them a line each, strips them, and passes over those that are empty."""
    return tuple(shown(" ".join(name.split())) or str(label) for label, name in enumerate(class_names))


def _unique(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Class names with the label added to those that occur twice, as TFDS requires."""
    counts = Counter(class_names)
    return tuple(f"{name} ({label})" if counts[name] > 1 else name for label, name in enumerate(class_names))
