"""What passes between the parts of the data package: a loaded set, the raw arrays of a source, and the errors."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from pp_jax._messages import one_line

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""`track(items, what, total)` yields the items and may show progress."""

Report = Callable[[str], None]
"""`report(sentence)` tells the user something; `print` will do."""


class DataError(ValueError):
    """A data set cannot be prepared or loaded; the message says why and how to cure it, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class DatasetMissing(DataError, FileNotFoundError):
    """The data set, or one of its splits, is not prepared in the data directory."""


class DatasetCorrupt(DataError):
    """A file of a source or of a prepared set is truncated, altered or not what it claims to be."""


class SourceUnavailable(DataError, OSError):
    """A source of a data set cannot be reached or does not exist on this machine."""


def silent(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """A `Track` that shows nothing."""
    del what, total
    return items


def quiet(sentence: str) -> None:
    """A `Report` that says nothing."""
    del sentence


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of an image set, in memory (or memory-mapped) and read-only.

    Attributes:
        name: the set, TFDS's name where it has one, e.g. "emnist/letters".
        split: the split as it was asked for, e.g. "train[:1000]".
        images: (N, H, W, C) uint8, 0..255.
        labels: (N,) int32, 0..num_classes − 1.
        class_names: the name of each label.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 (N, H, W, C), not {self.images.dtype} {self.images.shape}")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.int32:
            raise ValueError(
                f"labels must be int32 {self.images.shape[:1]} beside images {self.images.shape}, "
                f"not {self.labels.dtype} {self.labels.shape}"
            )

    @property
    def num_classes(self) -> int:
        """K, the number of class names."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | np.ndarray) -> "Dataset":
        """The images that a slice or an index array selects, as a data set."""
        return dataclasses.replace(self, images=self.images[index], labels=self.labels[index])

    def take(self, count: int) -> "Dataset":
        """The first `count` images.

        Raises:
            ValueError: if `count` is negative or more than there are.
        """
        if not 0 <= count <= len(self):
            raise ValueError(
                f"count must be between 0 and {len(self)}, the size of {self.name} {self.split}, not {count}"
            )
        return self[:count]


@dataclasses.dataclass(frozen=True)
class Raw:
    """The arrays that a source holds, in the source's order, before they are written.

    Attributes:
        splits: (images (N, H, W, C) uint8, labels (N,) integer) by TFDS split name.
        class_names: the names that the source gives its labels; None where it gives none.
        note: what should be known about this source, one sentence; may be empty.
        left_out: what of the source is not in the splits, and why: a phrase each, such as "2 files that are no whole
            image (A/x.png, A/y.png)".
    """

    splits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    class_names: tuple[str, ...] | None = None
    note: str = ""
    left_out: tuple[str, ...] = ()
