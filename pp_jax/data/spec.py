"""The description of an image set that can be prepared."""

import dataclasses
from collections.abc import Callable, Mapping

from pp_jax.data.sources import Source
from pp_jax.data.types import Raw, Track

Shape = tuple[int | None, int | None, int]
"""(H, W, C); None where the source decides."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known about a set, and how it is read.

    Attributes:
        name: TFDS's name, "set" or "set/config".
        version: TFDS's version; "1.0.0" for the library's own sets.
        shape: of every image.
        about: one line on the set and on the terms it comes under.
        read: from the files of a source to arrays.
        make: makes the arrays from nothing, in place of `read`.
        class_names: by label; None where the source names the classes.
        counts: images per split of the whole set; None where there is no such thing.
        digests: `manifest.arrays_digest` of splits of the official set, where known.
        optional: splits that may be absent.
        partial: whether files that the user gives may hold only a part of the set.
        origins: where it is fetched from, in order; none means that the user gives the files.
        accepts: what `--from` takes, for messages.
        ids: digits of TFDS's feature "id" ("train_00042"); None if the set has none.
        coarse: names of the coarse classes and the coarse class of each label, for TFDS's feature "coarse_label".
        resizable: whether `read` takes a `size` to resample to.
    """

    name: str
    version: str
    shape: Shape
    about: str
    read: Callable[..., Raw] | None = None
    make: Callable[[Track], Raw] | None = None
    class_names: tuple[str, ...] | None = None
    counts: Mapping[str, int] | None = None
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    optional: tuple[str, ...] = ()
    partial: bool = False
    origins: tuple[Source, ...] = ()
    accepts: str = ""
    ids: int | None = None
    coarse: tuple[tuple[str, ...], tuple[int, ...]] | None = None
    resizable: bool = False
