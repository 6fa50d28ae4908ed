"""What a network tells about the layers that it called: enough for a Gram matrix without a Jacobian.

A call of a layer is described by one factor per parameter. With δ the cotangent of the call's output, the factor says
how the gradient of that parameter follows from δ and the layer's input: as an outer product, a product or a sum.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from pp_jax.pytree import pytree
from pp_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Window:
    """Static geometry of a convolution over inputs (N, *spatial, C).

    Attributes:
        size: kernel size in each spatial axis.
        strides: step of the window in each spatial axis.
        padding: zeros before and after each spatial axis.
        input_dilation: distance between neighbouring inputs once zeros are put between them.
        kernel_dilation: distance between neighbouring kernel entries.
        groups: number of channel groups, each with its own kernels.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    groups: int = 1


@pytree
@dataclasses.dataclass(frozen=True)
class Kernel:
    """Factor of a kernel, y[s] = φ[s] W: the gradient is Σ_s φ[s] ⊗ δ[s], φ[s] the input that position s sees.

    Attributes:
        inputs: (…, n) for a dense layer, (N, *spatial, C) for a convolution.
        window: geometry of the convolution; None for a dense layer.
    """

    inputs: jax.Array
    window: Window | None = dataclasses.field(default=None, metadata={"static": True})

    def features(self) -> jax.Array:
        """φ of shape (S, groups, n): positions, channel groups, fan-in of a group."""
        if self.window is None:
            return self.inputs.reshape(-1, 1, self.inputs.shape[-1])
        return _patches(self.inputs, self.window)


@pytree
@dataclasses.dataclass(frozen=True)
class Rows:
    """Factor of an embedding table, y[s] = W[id[s]]: the gradient of row v is Σ_{s: id[s] = v} δ[s].

    Attributes:
        ids: indices of rows, any shape, in 0..size − 1.
        size: number of rows of the table.
    """

    ids: jax.Array
    size: int = dataclasses.field(metadata={"static": True})


@pytree
@dataclasses.dataclass(frozen=True)
class Scale:
    """Factor of a scale, y[s] = x̂[s] γ + β: the gradient is Σ_s x̂[s] δ[s].

    Attributes:
        normalized: x̂, (…, C).
    """

    normalized: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class Bias:
    """Factor of a bias, y[s] = … + b: the gradient is Σ_s δ[s]."""


Factor = Kernel | Rows | Scale | Bias
Call = Mapping[str, Factor]
Tap = Callable[[Call, jax.Array], jax.Array]


@runtime_checkable
class Tapped(Protocol):
    """A logits function that can report the calls of its layers."""

    def __call__(self, params: Params, image: jax.Array, /) -> jax.Array:
        """Logits of one image, (K,)."""

    def tapped(self, params: Params, image: jax.Array, tap: Tap) -> jax.Array:
        """Logits of one image, with `tap(call, y)` put in place of the output y of every layer call it describes.

        `call` maps the path of each parameter of the layer ("params/conv1/kernel") to its factor. A call may be left
        out, and then its parameters are differentiated as any others; but one that is reported must be all that its
        factors say: the parameters as they stand in `params`, and no trace opened between `tapped` and the layer.
        The network's input may be reported as the output of a call without parameters.
        """


def _patches(inputs: jax.Array, window: Window) -> jax.Array:
    """The inputs under the window at every output position, (S, groups, size·C/groups)."""
    pads = [(*pad, gap - 1) for pad, gap in zip(window.padding, window.input_dilation, strict=True)]
    x = lax.pad(inputs, jnp.zeros((), inputs.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    if window.groups > 1:
        x = x.reshape(*x.shape[:-1], window.groups, -1)
    # Axis by axis, the last one first: the order of a kernel's rows, in fewer pieces than one per kernel entry.
    for axis in range(len(window.size), 0, -1):
        size, step, gap = (values[axis - 1] for values in (window.size, window.strides, window.kernel_dilation))
        last = x.shape[axis] - (size - 1) * gap
        shifts = [lax.slice_in_dim(x, i * gap, i * gap + last, step, axis) for i in range(size)]
        x = jnp.concatenate(shifts, axis=-1)
    return x.reshape(-1, window.groups, x.shape[-1])
