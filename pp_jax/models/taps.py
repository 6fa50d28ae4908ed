"""Reports of the layer calls inside a Flax module, for Gram matrices that need no Jacobian."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import tracers
from jax import lax

from pp_jax.gram.calls import Bias, Call, Factor, Kernel, Rows, Scale, Tap, Window
from pp_jax.models.conv import conv

Describe = Callable[..., dict[str, Factor] | None]

# Options that a description below takes into account, or that change what a layer computes by rounding alone.
# fmt: off
_HARMLESS = frozenset((
    "parent", "name", "features", "dtype", "param_dtype", "precision", "use_bias", "use_scale",
    "kernel_size", "strides", "padding", "input_dilation", "kernel_dilation", "feature_group_count",
    "conv_general_dilated",
    "epsilon", "momentum", "use_running_average", "reduction_axes", "num_groups", "group_size", "axis_name",
    "axis_index_groups", "use_fast_variance", "force_float32_reductions", "num_embeddings",
))
# fmt: on


@contextlib.contextmanager
def tapped(variables: Mapping[str, Any], tap: Tap) -> Iterator[None]:
    """Within the context, `module.apply(variables, …)` puts `tap(call, y)` in place of the outputs y of known layers.

    Known are Dense, Conv, Embed, BatchNorm in inference, LayerNorm, GroupNorm and RMSNorm with ordinary options. A
    layer inside a lifted or JAX transformation (`nn.remat`, `nn.scan`, `jax.vmap`, …), or one whose parameters are not
    those in `variables` but made from them (`nn.WeightNorm`), is not reported.

    Args:
        variables: the variables that `apply` is given.
        tap: see `pp_jax.gram.calls.Tapped`.
    """
    trace = tracers.current_trace()

    def intercept(
        call_layer: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        output = call_layer(*args, **kwargs)
        module = context.module
        if context.method_name != "__call__" or type(module) not in _DESCRIBE or tracers.current_trace() != trace:
            return output
        if not args or not _ordinary(module) or not (factors := _DESCRIBE[type(module)](module, *args, **kwargs)):
            return output
        own = _lookup(variables, ("params", *module.path))
        if any(own.get(name) is not module.get_variable("params", name) for name in factors):
            return output
        call: Call = {"/".join(("params", *module.path, name)): factor for name, factor in factors.items()}
        return tap(call, output)

    with nn.intercept_methods(intercept):
        yield


def _lookup(tree: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    """The mapping at `path`, empty where there is none."""
    for key in path:
        tree = tree.get(key, {})
    return tree


def _ordinary(module: nn.Module) -> bool:
    """Whether every option that could change what the layer computes stands at its default."""
    fields = [
        field
        for field in dataclasses.fields(module)
        if field.name not in _HARMLESS and not field.name.endswith("_init")
    ]
    return all(getattr(module, field.name) is field.default for field in fields)


def _with_bias(module: Any, factor: Factor) -> dict[str, Factor]:
    """Factors of a kernel and of the bias, where there is one."""
    return {"kernel": factor, "bias": Bias()} if module.use_bias else {"kernel": factor}


def _dense(module: nn.Dense, inputs: jax.Array) -> dict[str, Factor]:
    """Factors of y = xW + b."""
    return _with_bias(module, Kernel(inputs))


def _conv(module: nn.Conv, inputs: jax.Array) -> dict[str, Factor] | None:
    """Factors of a convolution whose padding is made of zeros."""
    if module.conv_general_dilated not in (None, lax.conv_general_dilated, conv):
        return None
    size = (module.kernel_size,) if isinstance(module.kernel_size, int) else tuple(module.kernel_size)
    strides, input_dilation, kernel_dilation = (
        _each_axis(value, len(size)) for value in (module.strides, module.input_dilation, module.kernel_dilation)
    )
    inputs = inputs.reshape(-1, *inputs.shape[-len(size) - 1 :])
    effective = [(k - 1) * d + 1 for k, d in zip(size, kernel_dilation, strict=True)]
    padding = module.padding
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            return None
        padding = lax.padtype_to_pads(inputs.shape[1:-1], effective, strides, padding)
    elif isinstance(padding, int):
        padding = [padding] * len(size)
    pads = tuple((pad, pad) if isinstance(pad, int) else (pad[0], pad[1]) for pad in padding)
    window = Window(size, strides, pads, input_dilation, kernel_dilation, module.feature_group_count)
    return _with_bias(module, Kernel(inputs, window))


def _each_axis(value: Any, axes: int) -> tuple[int, ...]:
    """One number for each spatial axis."""
    return (1 if value is None else value,) * axes if value is None or isinstance(value, int) else tuple(value)


def _embed(module: nn.Embed, ids: jax.Array) -> dict[str, Factor] | None:
    """Factor of y = W[ids]; a table of one row is broadcast, whatever the ids."""
    if module.num_embeddings == 1:
        return None
    return {"embedding": Rows(jnp.where(ids < 0, ids + module.num_embeddings, ids), module.num_embeddings)}


def _norm(module: Any, inputs: jax.Array, *options: Any, **more: Any) -> dict[str, Factor] | None:
    """Factors of y = x̂γ + β, where x̂ is what the same layer makes without γ and β."""
    names = [name for name in ("scale", "bias") if getattr(module, f"use_{name}", False)]
    if not names:
        return None
    bare = module.clone(parent=None, name=None, **{f"use_{name}": False for name in names})
    statistics = {collection: values for collection, values in module.variables.items() if collection != "params"}
    factors: dict[str, Factor] = {"scale": Scale(bare.apply(statistics, inputs, *options, **more)), "bias": Bias()}
    return {name: factors[name] for name in names}


_DESCRIBE: dict[type[nn.Module], Describe] = {
    nn.Dense: _dense,
    nn.Conv: _conv,
    nn.Embed: _embed,
    nn.BatchNorm: _norm,
    nn.LayerNorm: _norm,
    nn.GroupNorm: _norm,
    nn.RMSNorm: _norm,
}
