"""Networks that make images of noise, and tell made images from others: the attacker's side of data-free stealing."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from pp_jax._checks import check_count, check_random_key
from pp_jax.models.conv import conv

LastNorm = Literal["learned", "fixed", "none"]
"""How a generator normalises its output: over the batch with learned scale and shift, without, or not at all."""


class _GeneratorModule(nn.Module):
    """Noise (B, Z) to pre-activations (B, H, W, C); always normalises over the batch at hand."""

    shape: tuple[int, int, int]
    width: int
    last_norm: LastNorm

    @nn.compact
    def __call__(self, noise: jax.Array) -> jax.Array:
        height, width, channels = self.shape
        x = nn.Dense(height // 4 * (width // 4) * 2 * self.width, name="fc")(noise)
        x = _norm(x.reshape(-1, height // 4, width // 4, 2 * self.width), "bn0")
        for index, units in enumerate((2 * self.width, self.width), start=1):
            x = _conv_3x3(units, _doubled(x), name=f"conv{index}")
            x = nn.leaky_relu(_norm(x, f"bn{index}"), 0.2)
        x = _conv_3x3(channels, x, name="conv3")
        return x if self.last_norm == "none" else _norm(x, "bn3", learned=self.last_norm == "learned")


class _DiscriminatorModule(nn.Module):
    """Images (B, H, W, C) in [0, 1] to logits (B,): positive for what is taken for a real image."""

    width: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = 2 * images - 1
        for index, units in enumerate((self.width, 2 * self.width), start=1):
            x = nn.leaky_relu(_conv_3x3(units, x, name=f"conv{index}", stride=2), 0.2)
        return nn.Dense(1, name="fc")(x.reshape(len(x), -1))[:, 0]


@dataclasses.dataclass(frozen=True)
class Generator:
    """A DCGAN-like generator x = (tanh h + 1)/2, h = G(z; w), z ~ N(0, I), for images with sides divisible by 4.

    Dense to a quarter of the size with 2·width channels; twice: nearest-neighbour doubling, 3×3 convolution (2·width,
    then width channels), batch normalisation, leaky ReLU 0.2; 3×3 convolution to the image's channels and batch
    normalisation. All normalisation is over the batch at hand, as in training: there are no running statistics.

    Attributes:
        latent: Z, entries of the noise of one image.
        width: channels of the last hidden layer; published 64, which for a 28×28 image takes 39 times the
            multiplications of a LeNet's forward pass (16: 3 times).
        last_norm: of the output h: "learned" (MAZE), "fixed" (DFME: half of the pixels bright), "none" (IDEAL).

    Raises:
        ValueError: for a number below 1 or another normalisation.

    Source: the generator of Fang et al. (2019) that Truong et al. (2021) and Kariyappa et al. (2021) use.
    """

    latent: int = 256
    width: int = 64
    last_norm: LastNorm = "fixed"

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("latent", "width"):
            check_count(name, getattr(self, name), low=1)
        if self.last_norm not in ("learned", "fixed", "none"):
            raise ValueError(f"last_norm must be 'learned', 'fixed' or 'none', not {self.last_norm!r}")

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
        """Draw the initial parameters for images (H, W, C).

        Raises:
            ValueError: for a seed in place of a key, or sides that 4 does not divide.
        """
        check_random_key(key)
        if len(image_shape) != 3 or min(image_shape) < 1 or image_shape[0] % 4 or image_shape[1] % 4:
            raise ValueError(
                f"image_shape={tuple(image_shape)} must be (height, width, channels) with sides that 4 divides"
            )
        return self._module(image_shape).init(key, jnp.zeros((2, self.latent)))["params"]

    def __call__(self, params: Any, noise: jax.Array, image_shape: tuple[int, ...]) -> jax.Array:
        """Pre-activations h, (B, H, W, C), of noise (B, Z) with B ≥ 2."""
        activations: Any = self._module(image_shape).apply({"params": params}, noise)
        return activations

    def _module(self, image_shape: tuple[int, ...]) -> _GeneratorModule:
        height, width, channels = image_shape
        return _GeneratorModule((height, width, channels), self.width, self.last_norm)


@dataclasses.dataclass(frozen=True)
class Discriminator:
    """Two 3×3 convolutions of stride 2 with leaky ReLU 0.2, and a dense layer: real image or made one.

    Attributes:
        width: channels of the first layer; the second has twice as many.

    Raises:
        ValueError: for a width below 1.
    """

    width: int = 32

    def __post_init__(self) -> None:
        """Check the width."""
        check_count("width", self.width, low=1)

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
        """Draw the initial parameters for images (H, W, C)."""
        return _DiscriminatorModule(self.width).init(key, jnp.zeros((1, *image_shape)))["params"]

    def __call__(self, params: Any, images: jax.Array) -> jax.Array:
        """Logits, (B,), of images (B, H, W, C) in [0, 1]."""
        logits: Any = _DiscriminatorModule(self.width).apply({"params": params}, images)
        return logits


def pixels(activations: jax.Array) -> jax.Array:
    """Images in [0, 1] of a generator's pre-activations: x = (tanh h + 1)/2."""
    return (jnp.tanh(activations) + 1) / 2


def _conv_3x3(channels: int, x: jax.Array, *, name: str, stride: int = 1) -> jax.Array:
    """Centred 3×3 convolution."""
    return nn.Conv(channels, (3, 3), strides=stride, padding=1, conv_general_dilated=conv, name=name)(x)


def _doubled(x: jax.Array) -> jax.Array:
    """Twice as high and wide, every entry four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def _norm(x: jax.Array, name: str, *, learned: bool = True) -> jax.Array:
    """Normalise over the batch at hand."""
    # Not `nn.BatchNorm`: that keeps running statistics, which nobody would read.
    return _BatchNormalised(learned, name=name)(x)


class _BatchNormalised(nn.Module):
    """(x − mean)/√(var + 1e-5) over batch and positions, with learned scale and shift or without."""

    learned: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        mean, variance = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
        x = (x - mean) * jax.lax.rsqrt(variance + 1e-5)
        if not self.learned:
            return x
        shape = (1, 1, 1, x.shape[-1])
        return x * self.param("scale", nn.initializers.ones, shape) + self.param("bias", nn.initializers.zeros, shape)
