"""What is checked of the arrays of a source before a set is written."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from pp_jax.data import manifest, remotes
from pp_jax.data.phrases import counted, shown
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
    empty = [split for split, (_, labels) in raw.splits.items() if not len(labels)]
    if empty or not raw.splits:
        which = f" in the split {empty[0]}" if empty else ""
        raise DatasetCorrupt(f"there are no images for {spec.name}{which}: give {spec.accepts or 'some'} with --from")
    if spec.counts is not None and (whole or not spec.partial):
        _check_counts(spec, raw)
    class_names = _printable(raw.class_names or spec.class_names or _numbered(raw))
    shapes = {images.shape[1:] for images, _ in raw.splits.values()}
    if len(shapes) > 1:
        raise DatasetCorrupt(f"the splits of {spec.name} differ in image shape: {sorted(shapes)}")
    splits = {
        split: (_images(spec, split, images), _labels(spec, split, len(images), labels, len(class_names)))
        for split, (images, labels) in raw.splits.items()
    }
    # An image folder has said itself which classes are empty, in the same words.
    remarks = (*raw.note.split("; "), _identity(spec, splits), *_empty_classes(spec, splits, class_names))
    note = "; ".join(filter(None, dict.fromkeys(remarks)))
    return dataclasses.replace(raw, splits=splits, class_names=class_names, note=note), _unique(class_names)


def _check_counts(spec: Spec, raw: Raw) -> None:
    """Compare the counts with those of the whole set."""
    expected, found = dict(spec.counts or {}), {split: len(labels) for split, (_, labels) in raw.splits.items()}
    left_out = f" (left out: {'; '.join(raw.left_out)})" if raw.left_out else ""
    cure = f"a part of the set is not stored under the name of the whole; needed is {spec.accepts or 'the whole set'}"
    if spec.origins:
        cure += f"; without --from, python -m pp_jax.data prepare {spec.name} fetches it"
    for split, count in expected.items():
        if split not in found and split not in spec.optional:
            raise DatasetCorrupt(
                f"{spec.name} has a split {split!r} of {count} images, but the source has only "
                f"{', '.join(found)}{left_out}: {cure}"
            )
    for split, count in found.items():
        if count != expected.get(split, 0):
            raise DatasetCorrupt(
                f"{spec.name} {split} has {expected.get(split, 0)} images, but the source holds {count}{left_out}: "
                f"{cure}"
            )


def _identity(spec: Spec, splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Whether images and labels are those of the official set, where its digests are known; MNIST's are its alone.

    Raises:
        DatasetCorrupt: if another set than MNIST holds MNIST's images.
    """
    official = spec.digests or (remotes.MNIST_DIGESTS if spec.shape == (28, 28, 1) and spec.counts else {})
    same = {
        split: manifest.arrays_digest(*splits[split]) == digest for split, digest in official.items() if split in splits
    }
    if not spec.digests and any(same.values()):
        raise DatasetCorrupt(f"these are the images of mnist, not of {spec.name}: give the files of {spec.name}")
    others = [split for split, is_same in same.items() if not is_same]
    if not spec.digests or not others:
        return ""
    return f"images or labels of {' and '.join(others)} are not those of the official {spec.name}"


def _empty_classes(
    spec: Spec, splits: Mapping[str, tuple[np.ndarray, np.ndarray]], class_names: tuple[str, ...]
) -> Iterator[str]:
    """The classes without an image in a split, unless the set is whole and so known to have them."""
    if spec.counts is not None and not spec.partial:
        return
    for split, (_, labels) in splits.items():
        used = set(np.unique(labels).tolist())
        empty = [name for label, name in enumerate(class_names) if label not in used]
        yield from counted(empty, f"class without {split} images", f"classes without {split} images")


def _images(spec: Spec, split: str, images: np.ndarray) -> np.ndarray:
    """Images of the set's own shape and dtype."""
    fits = images.ndim == 4 and all(
        want in (None, have) for want, have in zip(spec.shape, images.shape[1:], strict=True)
    )
    if not fits or images.dtype != np.uint8:
        want = "×".join("any" if side is None else str(side) for side in spec.shape)
        cure = f": save them with {spec.shape[2]} channel{'s' * (spec.shape[2] > 1)}"
        if images.ndim == 4 and images.shape[3] == spec.shape[2]:
            cure = "; nothing is resized unasked: choose a size with --size (image folders alone)" * spec.resizable
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
            f"labels of {spec.name} {split} must lie in 0..{num_classes - 1}, not {labels.min()}..{labels.max()}: "
            f"there are {num_classes} class names; give one for each label, counted from 0"
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
