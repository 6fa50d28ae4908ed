"""A Flax module together with its input normalisation, as the pure functions that the rest of the library asks for."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeCollectionNotFound, ScopeParamNotFoundError, ScopeParamShapeError
from jax.typing import ArrayLike

from pp_jax._checks import check_random_key
from pp_jax.gram.calls import Tap
from pp_jax.models import taps
from pp_jax.models.conv import for_many_kernels

Variables = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """A logits function z = f(variables, image) over pixels in [0, 1], with its normalisation (x − mean) / std inside.

    The object is hashable and holds no arrays: pass it to `jit` as a static argument or close over it. Because the
    normalisation belongs to the function, gradients with respect to an image are gradients in pixel space.

    Args:
        module: linen module called as `module.apply(variables, images, train=...)` on (B, H, W, C) batches, with a
            method `features` of the same signature that returns the input of the last Dense layer.
        mean: per-channel mean in pixel units; one entry serves all channels.
        std: per-channel standard deviation in pixel units, positive; one entry serves all channels.
        many: for `vmap` over the variables: the same function, its convolutions in the form that is then fast.

    Raises:
        ValueError: if `mean` and `std` are empty, differ in length, or `std` is not positive.
    """

    module: nn.Module
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    many: bool = False

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(f"mean={self.mean} and std={self.std} must have one entry each, or one per channel.")
        if not all(s > 0 for s in self.std):
            raise ValueError(f"std={self.std} must be positive in every channel.")

    @property
    def vmapped(self) -> "Network":
        """The same function in the form that is fast under `vmap` over the variables."""
        return dataclasses.replace(self, many=True)

    def with_outputs(self, count: int) -> "Network":
        """The same architecture with another number of outputs, for losses that train a task besides the classes."""
        return dataclasses.replace(self, module=self.module.clone(num_classes=count))

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> dict[str, Any]:
        """Draw the initial variables for images of one shape.

        Args:
            key: PRNG key (`jax.random.key`).
            image_shape: (H, W, C) of one image.

        Returns:
            `{"params": ...}`, and `"batch_stats"` where the module normalises over batches.

        Raises:
            ValueError: for a seed in place of a key, or if `image_shape` is not three positive sizes that the module
                accepts.
        """
        check_random_key(key)
        if len(image_shape) != 3 or not all(size > 0 for size in image_shape):
            raise ValueError(f"image_shape={image_shape} must be three positive sizes (height, width, channels).")
        images = self._pixels(jnp.zeros((1, *image_shape)), rank=4)
        return dict(self.module.init(key, images, train=False))

    def __call__(self, variables: Variables, image: ArrayLike) -> jax.Array:
        """Logits of one image, in inference mode.

        Args:
            variables: what `init` or `train` returned.
            image: (H, W, C); uint8 in 0..255, or floating point in [0, 1].

        Returns:
            Logits (K,).

        Raises:
            ValueError: if `image` has another rank, channel count or dtype.
        """
        return self._apply(variables, self._pixels(image, rank=3)[None])[0]

    def features(self, variables: Variables, image: ArrayLike) -> jax.Array:
        """Input (F,) of the last Dense layer, in inference mode; arguments and errors as in `__call__`."""
        return self._apply(variables, self._pixels(image, rank=3)[None], method="features")[0]

    def tapped(self, variables: Variables, image: ArrayLike, tap: Tap) -> jax.Array:
        """Logits (K,) of one image with `tap(call, y)` for the output y of known layers: `pp_jax.gram.calls.Tapped`."""
        with taps.tapped(variables, tap):
            return self._apply(variables, tap({}, self._pixels(image, rank=3)[None]))[0]

    def train(self, variables: Variables, images: ArrayLike) -> tuple[jax.Array, dict[str, Any]]:
        """Logits of a batch in training mode, and the variables with their batch statistics updated.

        Args:
            variables: what `init` or `train` returned.
            images: (B, H, W, C); uint8 in 0..255, or floating point in [0, 1].

        Returns:
            Logits (B, K), and variables of the same structure; the parameters are the ones passed in.

        Raises:
            ValueError: if `images` has another rank, channel count or dtype.
        """
        logits, updates = self._apply(variables, self._pixels(images, rank=4), train=True, mutable=["batch_stats"])
        return logits, {**variables, **updates}

    def train_features(self, variables: Variables, images: ArrayLike) -> tuple[jax.Array, dict[str, Any]]:
        """Inputs (B, F) of the last Dense layer in training mode; arguments, variables and errors as in `train`."""
        pixels = self._pixels(images, rank=4)
        features, updates = self._apply(variables, pixels, train=True, mutable=["batch_stats"], method="features")
        return features, {**variables, **updates}

    def _apply(self, variables: Variables, images: jax.Array, *, train: bool = False, **options: Any) -> Any:
        """The module's output, with Flax's complaints about the variables turned into one sentence."""
        try:
            with for_many_kernels(self.many):
                return self.module.apply(variables, images, train=train, **options)
        except (ScopeParamShapeError, ScopeParamNotFoundError, ScopeCollectionNotFound) as error:
            raise ValueError(
                f"image shape {images.shape[1:]} and the variables must fit together and be those of "
                f"{type(self.module).__name__}.init for that shape: {error}"
            ) from error

    def _pixels(self, images: ArrayLike, *, rank: int) -> jax.Array:
        """Normalised floating-point pixels of a checked image (rank 3) or batch (rank 4)."""
        images = jnp.asarray(images)
        wanted = "(height, width, channels)" if rank == 3 else "(batch, height, width, channels)"
        if images.ndim != rank:
            raise ValueError(f"image shape {images.shape} must have {rank} axes {wanted}.")
        if len(self.mean) not in (1, images.shape[-1]):
            raise ValueError(
                f"image shape {images.shape} must end in {len(self.mean)} channels, as mean={self.mean} does."
            )
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / 255
        elif not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"image dtype {images.dtype} must be uint8, or floating point with values in [0, 1].")
        # Pixels are data: in half precision, the subtraction below would cost more digits than the input has.
        images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
        channels = (1,) * (rank - 1) + (len(self.mean),)
        mean, std = (jnp.asarray(v, images.dtype).reshape(channels) for v in (self.mean, self.std))
        return (images - mean) / std
