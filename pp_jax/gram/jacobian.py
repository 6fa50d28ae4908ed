"""The Gram matrix from the Jacobian itself: the readable reference, with any choice of parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pp_jax.types import LogitsFn, Params

Where = Callable[[str], bool]


def trainable(path: str) -> bool:
    """Whether a parameter path ("params/Dense_0/kernel") is trained: everything but running statistics."""
    return not path.startswith("batch_stats/")


def select(params: Params, where: Where) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Params]]:
    """Split off the floating-point parameters that `where` picks.

    Args:
        params: a pytree of arrays.
        where: predicate on the path of a leaf, its keys joined by "/".

    Returns:
        The picked leaves, and a function that puts (changed) leaves back into the whole tree.

    Raises:
        ValueError: if no parameter is picked.
    """
    paths, treedef = jax.tree.flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    leaves = [leaf for _, leaf in paths]
    picked = [i for i, name in enumerate(names) if where(name) and jnp.issubdtype(leaves[i].dtype, jnp.floating)]
    if not picked:
        raise ValueError(f"`where` must pick at least one of the parameters {', '.join(names)}; it picks none")

    def restore(chosen: list[jax.Array]) -> Params:
        whole = list(leaves)
        for index, leaf in zip(picked, chosen, strict=True):
            whole[index] = leaf
        return jax.tree.unflatten(treedef, whole)

    return [leaves[i] for i in picked], restore


def jacobian(logits_fn: LogitsFn, params: Params, image: jax.Array, *, where: Where = trainable) -> jax.Array:
    """Gram matrix M = GGᵀ over all parameters, or those that `where` picks, through `jax.jacrev`.

    G = ∂ log softmax(logits_fn(w, image)) / ∂w ∈ R^{K×D}; it is formed in full, K backward passes and K·D numbers.
    Arguments, result and errors as in `all_layers`.
    """
    chosen, restore = select(params, where)

    def log_posterior(leaves: list[jax.Array]) -> jax.Array:
        logits = logits_fn(restore(leaves), image)
        return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

    def rows(block: jax.Array) -> jax.Array:
        return block.reshape(block.shape[0], -1).astype(jnp.promote_types(block.dtype, jnp.float32))

    blocks = [rows(block) for block in jax.jacrev(log_posterior)(chosen)]
    return sum((block @ block.T for block in blocks[1:]), blocks[0] @ blocks[0].T)
