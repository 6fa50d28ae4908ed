"""Image sets under TFDS's names, prepared and loaded without TensorFlow.

python -m pp_jax.data prepare mnist
dataset = pp_jax.data.load("mnist", "train[:1000]")
"""

from typing import TYPE_CHECKING, Any

from pp_jax.data.types import DataError, Dataset, DatasetCorrupt, DatasetMissing, SourceUnavailable

if TYPE_CHECKING:
    from pp_jax.data.loading import load
    from pp_jax.data.preparing import prepare

__all__ = ["DataError", "Dataset", "DatasetCorrupt", "DatasetMissing", "SourceUnavailable", "load", "prepare"]


def __getattr__(name: str) -> Any:
    """Import `load` and `prepare` when they are first used: TFDS is slow to import."""
    if name == "load":
        from pp_jax.data.loading import load

        return load
    if name == "prepare":
        from pp_jax.data.preparing import prepare

        return prepare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
