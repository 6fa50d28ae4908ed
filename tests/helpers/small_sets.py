"""Small sets that the tests of the data package prepare."""

import numpy as np

from pp_jax.data.spec import Spec
from pp_jax.data.types import Raw


def random_raw(seed: int = 0, *, counts: dict[str, int] | None = None, shape=(8, 6, 1), classes: int = 3) -> Raw:
    """Random images with labels that go round the classes."""
    rng = np.random.default_rng(seed)
    names = tuple(f"class {label}" for label in range(classes))
    splits = {
        split: (rng.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % classes)
        for split, count in (counts or {"train": 40, "test": 11}).items()
    }
    return Raw(splits, names)


def spec_of(raw: Raw, name: str = "tiny_set", version: str = "1.0.0", **more) -> Spec:
    """A set that is made of given arrays."""
    channels = next(iter(raw.splits.values()))[0].shape[-1]
    return Spec(name, version, (None, None, channels), "A set for tests.", make=lambda track: raw, **more)


def multiset(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    """Labelled images in an order that does not depend on how they are stored."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


RAW = random_raw()
