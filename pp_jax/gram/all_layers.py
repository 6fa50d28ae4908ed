"""The exact Gram matrix over all parameters, layer by layer, without the Jacobian."""

import functools
import math
from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp

from pp_jax.gram.batching import in_chunks
from pp_jax.gram.calls import Call, Tapped
from pp_jax.gram.contractions import contract
from pp_jax.gram.jacobian import Where, jacobian, select, trainable
from pp_jax.gram.survey import Outputs, paths, survey, uses
from pp_jax.types import LogitsFn, Params


def all_layers(logits_fn: LogitsFn, params: Params, image: jax.Array, *, where: Where = trainable) -> jax.Array:
    """Gram matrix M = GGᵀ over all parameters, or those that `where` picks, from layer inputs and output cotangents.

    M = Σ_w G_w G_wᵀ over parameters w. One forward pass keeps the input of every layer; the K rows of I − 1pᵀ are
    pulled back to the layers' outputs as cotangents δ_k; what w contributes follows from these (see
    `pp_jax.gram.contractions`), the calls of a shared layer summed before they are squared. It equals `jacobian` up to
    rounding.

    A parameter whose layer is not known, or that is used outside of known layers as well, is differentiated in full (K
    copies of that parameter). A `logits_fn` without the method `tapped` (`pp_jax.gram.calls.Tapped`; `models.Network`
    has it) goes through `jacobian`. Use it inside `jit`: what is not needed is dropped there.

    Under `vmap` a batch is worked off a few images at a time, so that the cotangents stay in a CPU's cache or within
    1 GiB of an accelerator's memory (`pp_jax.gram.batching`): memory does not grow with the batch.

    Args:
        logits_fn: the surrogate, `logits_fn(params, image) -> (K,)`.
        params: its parameters, a pytree.
        image: one image, (H, W, C).
        where: predicate on parameter paths such as "params/Dense_0/kernel".

    Returns:
        M, (K, K), in float32 or wider.

    Raises:
        ValueError: if `where` picks no parameter.

    Source: Orekondy et al. 2020, eq. 5, for G; the layer-wise form is derived in docs/theory.md.
    """
    if not isinstance(logits_fn, Tapped):
        return jacobian(logits_fn, params, image, where=where)
    select(params, where)  # raises where nothing is picked
    leaves = zip(paths(params), jax.tree.leaves(params), strict=True)
    picked = frozenset(name for name, leaf in leaves if where(name) and jnp.issubdtype(leaf.dtype, jnp.floating))
    seen = survey(logits_fn, params, image)
    one = functools.partial(_one, logits_fn, picked=picked, known=seen.known & picked, outputs=seen.outputs)
    classes = jax.eval_shape(logits_fn, params, image).shape[0]
    bytes_each = classes * sum(math.prod(shape.shape) * shape.dtype.itemsize for _, shape in seen.outputs)
    return in_chunks(one, bytes_each=bytes_each)(params, image)


def _one(
    logits_fn: Tapped,
    params: Params,
    image: jax.Array,
    *,
    picked: frozenset[str],
    known: frozenset[str],
    outputs: Outputs,
) -> jax.Array:
    """Gram matrix over the `picked` parameters, by contraction for those that are `known`."""
    free: list[jax.Array] = []
    restore: Callable[[list[jax.Array]], Params] | None = None
    if picked - known:
        free, restore = select(params, (picked - known).__contains__)

    def log_posterior(taps: list[jax.Array], free: list[jax.Array]) -> tuple[jax.Array, list[Call]]:
        logits, calls = _run(logits_fn, restore(free) if restore else params, image, known, taps)
        return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32))), calls

    taps = [jnp.zeros(shape.shape, shape.dtype) for names, shape in outputs if _wanted(names, known)]
    log_p, pull, calls = jax.vjp(log_posterior, taps, free, has_aux=True)
    cotangents, blocks = jax.vmap(pull)(jnp.eye(log_p.shape[0], dtype=log_p.dtype))
    grams = _known_grams(known, calls, cotangents) + [_square(block) for block in blocks]
    return sum(grams[1:], grams[0])


def _wanted(names: Collection[str], known: frozenset[str]) -> bool:
    """Whether a call is tapped: it uses a known parameter, or it is the network's input.

    A tap on the input (whose cotangent nobody asks for) makes every layer run in its form for differentiation, which is
    the fast one inside the loop over a batch.
    """
    return not names or not known.isdisjoint(names)


def _run(
    logits_fn: Tapped, params: Params, image: jax.Array, known: frozenset[str], taps: list[jax.Array]
) -> tuple[jax.Array, list[Call]]:
    """Logits with `taps` added to the outputs of the wanted calls, and those calls."""
    calls: list[Call] = []

    def tap(call: Call, output: jax.Array) -> jax.Array:
        if not _wanted(call, known):
            return output
        calls.append(call)
        return output + taps[len(calls) - 1]

    return logits_fn.tapped(params, image, tap), calls


def _known_grams(known: frozenset[str], calls: list[Call], cotangents: list[jax.Array]) -> list[jax.Array]:
    """Gram matrices of the known parameters; a bias goes with the other parameter of its layer where that is known."""
    grams, done = [], set()
    # Reversed, a layer's kernel or scale comes before its bias.
    for name in sorted(known, reverse=True):
        if name in done:
            continue
        mine = [delta for call, delta in zip(calls, cotangents, strict=True) if name in call]
        bias = f"{name.rpartition('/')[0]}/bias"
        joined = bias in known - {name} and all((name in call) == (bias in call) for call in calls)
        grams.append(contract(uses(name, calls), mine, bias=joined))
        done.update({name, bias} if joined else {name})
    return grams


def _square(block: jax.Array) -> jax.Array:
    """GGᵀ for the gradients (K, …) of one parameter."""
    rows = block.reshape(block.shape[0], -1).astype(jnp.promote_types(block.dtype, jnp.float32))
    return rows @ rows.T
