"""Convolution and pooling in the form that XLA compiles best for the platform at hand.

XLA:CPU's convolution is the fastest form of a forward pass, with one cliff: XLA exchanges image and kernel where the
kernel has more positions than the image (3×3 on 2×2, the last block of a VGG), and the result misses every fast
path, 50 times slower than a matrix product over gathered patches (im2col). Its *derivatives* are slower than the patch
form's, and 15 times slower inside `lax.scan`. So on a CPU a convolution is plain in a forward pass and gathered where
it is differentiated. Accelerators keep the plain convolution, but where many networks are trained at once: `vmap` over
kernels makes of it a grouped convolution, of a gathered one a batched matrix product.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], ...]

# Above this many bytes of patches per image the derivatives stay plain too: a batch of patches would not fit memory.
_MAX_PATCH_BYTES = 2**23

_many_kernels = contextvars.ContextVar("_many_kernels", default=False)


@contextlib.contextmanager
def for_many_kernels(many: bool) -> Iterator[None]:
    """What is traced inside is meant for `vmap` over the kernels."""
    token = _many_kernels.set(many)
    try:
        yield
    finally:
        _many_kernels.reset(token)


def conv(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated`, computed in the form that is fastest on the platform that it is compiled for.

    y[b, p, o] = Σ_{q, c} lhs[b, s·p + d·q − pad, c] · rhs[q, c, o]

    Meant as the `conv_general_dilated` of `flax.linen.Conv`. The form is chosen from static shapes; the platform is
    chosen when the program is lowered, not from the default backend, so that a function compiled for the CPU of a
    machine with a GPU gets the CPU's form. The batch size plays no part, so `vmap` of a function of one image runs
    the same program as the batch. Anything but an ungrouped two-dimensional NHWC × HWIO convolution is left plain.

    Args:
        lhs: images (B, H, W, C).
        rhs: kernel (kh, kw, C, O).
        window_strides: (sh, sw).
        padding: `"SAME"`, `"VALID"`, or ((top, bottom), (left, right)); negative entries crop.
        lhs_dilation: dilation of the images; other than 1 leaves the convolution plain.
        rhs_dilation: dilation of the kernel (dh, dw).
        dimension_numbers: as in `lax.conv_general_dilated`.
        **options: further arguments of `lax.conv_general_dilated`; `precision` is used in every form, any other
            that is given leaves the convolution plain.

    Returns:
        (B, H', W', O), within 1e-5 of the plain convolution relative to its largest entry, in float32.
    """
    if not _is_simple(lhs, rhs, lhs_dilation, dimension_numbers, options):
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, **options
        )
    dilation = tuple(rhs_dilation or (1, 1))
    lhs, pads = _cropped(lhs, _pads(lhs.shape, rhs.shape, window_strides, padding, dilation))

    def plain(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            images, kernel, window_strides, pads, rhs_dilation=dilation, dimension_numbers=dimension_numbers, **options
        )

    gathered = functools.partial(
        _gathered_conv,
        strides=tuple(window_strides),
        pads=pads,
        dilation=dilation,
        precision=options.get("precision"),
    )
    patch_bytes = _patch_bytes(lhs, rhs, pads, dilation)
    if _many_kernels.get() and 0 < patch_bytes <= _MAX_PATCH_BYTES:
        return gathered(lhs, rhs)
    return lax.platform_dependent(lhs, rhs, cpu=_on_cpu(plain, gathered, lhs, rhs, patch_bytes), default=plain)


def _is_simple(lhs: jax.Array, rhs: jax.Array, lhs_dilation: Any, dimension_numbers: Any, options: Any) -> bool:
    """Whether this is an ungrouped two-dimensional NHWC × HWIO convolution of undilated images."""
    if lhs.ndim != 4 or rhs.ndim != 4 or any(d != 1 for d in lhs_dilation or ()):
        return False
    if options.get("feature_group_count", 1) != 1 or any(
        value is not None for name, value in options.items() if name not in ("feature_group_count", "precision")
    ):
        return False
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    return numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))


def _pads(lhs_shape: Any, rhs_shape: Any, strides: Any, padding: Any, dilation: Any) -> Pads:
    """Explicit padding ((top, bottom), (left, right))."""
    if isinstance(padding, str):
        spans = [(k - 1) * d + 1 for k, d in zip(rhs_shape[:2], dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs_shape[1:3], spans, strides, padding)
    return tuple((int(low), int(high)) for low, high in padding)


def _cropped(images: jax.Array, pads: Pads) -> tuple[jax.Array, Pads]:
    """Images without what negative padding takes away, and the padding that remains."""
    if min(min(pads)) >= 0:
        return images, pads
    # XLA:CPU reads beyond the image where a convolution itself has negative padding.
    crops = [(0, 0, 0), *((min(low, 0), min(high, 0), 0) for low, high in pads), (0, 0, 0)]
    return lax.pad(images, jnp.zeros((), images.dtype), crops), tuple((max(low, 0), max(high, 0)) for low, high in pads)


def _patch_bytes(lhs: jax.Array, rhs: jax.Array, pads: Pads, dilation: tuple[int, ...]) -> int:
    """What the patches of one image take at stride 1; nothing where the kernel fits nowhere."""
    padded = [n + sum(pad) for n, pad in zip(lhs.shape[1:3], pads, strict=True)]
    if any(n <= (k - 1) * d for n, k, d in zip(padded, rhs.shape[:2], dilation, strict=True)):
        return 0
    return math.prod(padded) * math.prod(rhs.shape[:2]) * lhs.shape[3] * lhs.dtype.itemsize


def _on_cpu(plain: Any, gathered: Any, lhs: jax.Array, rhs: jax.Array, patch_bytes: int) -> Any:
    """The convolution for a CPU: one form where it is evaluated, one where it is differentiated."""
    if patch_bytes == 0:
        return plain  # An empty result, without patches.
    if math.prod(rhs.shape[:2]) > math.prod(lhs.shape[1:3]):
        return gathered
    if patch_bytes > _MAX_PATCH_BYTES:
        return plain
    # A custom JVP, not a custom VJP: forward-mode derivatives must keep working, and transposition follows.
    on_cpu = jax.custom_jvp(_mapped_in_front(plain))
    on_cpu.defjvp(functools.partial(jax.jvp, _mapped_in_front(gathered)))
    return on_cpu


def _mapped_in_front(function: Any) -> Any:
    """`function`, whose result has the axis of a `vmap` in front."""

    # `vmap` over kernels leaves its axis now beside the channels, now in front. Of a function with a derivative of its
    # own JAX takes value and derivative to have it in the same place. Reshaping moves it to the front.
    def wrapped(images: jax.Array, kernel: jax.Array) -> jax.Array:
        found = function(images, kernel)
        return found.reshape(-1).reshape(found.shape)

    return wrapped


def _gathered_conv(
    lhs: jax.Array,
    rhs: jax.Array,
    *,
    strides: tuple[int, ...],
    pads: Pads,
    dilation: tuple[int, ...],
    precision: lax.PrecisionLike,
) -> jax.Array:
    """The convolution as one product of patches (B, H', W', kh·kw·C) and the kernel as a matrix."""
    kernel = rhs.reshape(-1, rhs.shape[-1])
    patches = _patches(lhs, rhs.shape[:2], strides=strides, pads=pads, dilation=dilation)
    return lax.dot_general(patches, kernel, (((3,), (0,)), ((), ())), precision=precision)


def _patches(
    images: jax.Array, window: tuple[int, ...], *, strides: tuple[int, ...], pads: Pads, dilation: tuple[int, ...]
) -> jax.Array:
    """What each output position sees: (B, H', W', kh·kw·C), ordered as the rows of the kernel matrix."""
    images = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    for axis in (2, 1):
        size, step, gap = images.shape[axis], strides[axis - 1], dilation[axis - 1]
        last = size - (window[axis - 1] - 1) * gap
        shifts = [lax.slice_in_dim(images, i * gap, i * gap + last, step, axis) for i in range(window[axis - 1])]
        images = jnp.concatenate(shifts, axis=3)
    return images


def max_pool_2x2(images: jax.Array) -> jax.Array:
    """Largest value in each 2×2 window with stride 2; tied entries share the derivative equally.

    Written as a reshape and a maximum, whose derivative is elementwise; that of a windowed reduction is a scatter.

    Args:
        images: (B, H, W, C); an odd last row or column is dropped.

    Returns:
        (B, H // 2, W // 2, C).
    """
    batch, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
