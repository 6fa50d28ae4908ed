"""Frozen dataclasses as pytrees, told apart by their class."""

import dataclasses
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def pytree(cls: type[T]) -> type[T]:
    """Register a frozen dataclass as a pytree: fields with `metadata={"static": True}` are structure, others leaves.

    Like `jax.tree_util.register_dataclass`, with two differences. The class is part of the structure: JAX 0.10 takes
    two dataclass nodes for equal if their static fields are, whatever their classes, so that `jit` could hand one
    defense the program of another (`TopK(1)` that of `Rounding(1)`). And a node is rebuilt without `__init__`: what JAX
    puts in place of a leaf need not be an array.

    Args:
        cls: a dataclass.

    Returns:
        `cls`, so that it serves as a decorator above `dataclasses.dataclass`.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    leaves = [field.name for field in fields if not field.metadata.get("static")]
    static = [field.name for field in fields if field.metadata.get("static")]
    keys = [jax.tree_util.GetAttrKey(name) for name in leaves]

    def structure(node: T) -> tuple[Any, ...]:
        return (cls, *(getattr(node, name) for name in static))

    def flatten(node: T) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(node, name) for name in leaves], structure(node)

    def flatten_with_keys(node: T) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        return [(key, getattr(node, key.name)) for key in keys], structure(node)

    def unflatten(aux: tuple[Any, ...], children: Any) -> T:
        node = object.__new__(cls)
        for name, value in (*zip(leaves, children, strict=True), *zip(static, aux[1:], strict=True)):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
