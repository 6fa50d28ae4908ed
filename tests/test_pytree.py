"""Dataclasses as pytrees: leaves vary, structure is compared with its class."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import MAD, RandomNoise, ReverseSigmoid, Rounding, Top1, TopK, chain, gram, models
from pp_jax.pytree import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class Positive:
    value: object
    kind: str = dataclasses.field(default="a", metadata={"static": True})

    def __post_init__(self):
        if not np.all(np.asarray(self.value) > 0):
            raise ValueError(self.value)


def test_the_class_is_part_of_the_structure():
    nodes = [TopK(1), Rounding(1), Top1(), chain(), chain(TopK(1)), chain(Rounding(1)), ReverseSigmoid(0.5)]
    structures = [jax.tree.structure(node) for node in nodes]
    assert all((a == b) == (i == j) for i, a in enumerate(structures) for j, b in enumerate(structures))


def test_static_fields_are_structure_and_the_others_leaves():
    node = Positive(jnp.ones(2), kind="b")
    (path, leaf), *rest = jax.tree.leaves_with_path(node)
    assert (jax.tree_util.keystr(path), leaf.shape, rest) == (".value", (2,), [])
    assert jax.tree.structure(node) != jax.tree.structure(dataclasses.replace(node, kind="a"))


def test_a_node_is_rebuilt_without_init():
    leaves, structure = jax.tree.flatten(Positive(1.0))
    assert jax.tree.unflatten(structure, [-1.0]).value == -1.0
    assert jax.tree.unflatten(structure, leaves) == Positive(1.0)
    with pytest.raises(ValueError):
        Positive(-1.0)


@pytest.mark.parametrize(
    "node",
    [
        MAD(models.lenet(), {"w": jnp.ones(3)}, 0.5),
        RandomNoise(2.0, "l2"),
        chain(TopK(2), Rounding(1)),
        gram.LastLayer(jnp.array([0.5, 0.5])),
    ],
)
def test_flattening_and_rebuilding_changes_nothing(node):
    leaves, structure = jax.tree.flatten(node)
    again = jax.tree.unflatten(structure, leaves)
    assert type(again) is type(node)
    assert jax.tree.structure(again) == structure
