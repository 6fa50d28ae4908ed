"""What a value is: equal for equal content, different for what changes a result, refused where it cannot be told."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import models, training
from pp_jax.defenses import MAD, Top1
from pp_jax.results.identity import describe, digest, tree_digest


@dataclasses.dataclass(frozen=True)
class Own:
    """Somebody's."""

    value: float = 0.5


def own_function(x):
    """Somebody's."""
    return x


@pytest.mark.parametrize(
    "value",
    [
        1, 0.5, "text", None, True, (1, 2), {"a": [1.0]}, np.arange(3), jnp.arange(3.0), np.float32(0.1), Own(), Own,
        Top1, own_function, functools.partial(own_function, x=1), jax.random.key(3), models.lenet(10),
        training.Recipe(3), np.zeros((2, 0)),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_description_is_json_and_repeats(value):
    assert digest(value) == digest(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Own(0.5), Own(0.6)),
        (np.arange(3), np.arange(3.0)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (models.lenet(10), models.lenet(11)),
        (training.Recipe(3), training.Recipe(4)),
        (MAD, Top1),
        (jax.random.key(1), jax.random.key(2)),
        (functools.partial(own_function, x=1), functools.partial(own_function, x=2)),
    ],
)
def test_another_content_is_another_digest(one, other):
    assert digest(one) != digest(other)


def test_arrays_are_told_by_content_whoever_holds_them():
    assert digest(np.arange(3, dtype=np.float32)) == digest(jnp.arange(3, dtype=jnp.float32))
    tree = {"a": np.zeros(3), "b": np.ones(2)}
    assert tree_digest(tree) == tree_digest({"b": np.ones(2), "a": np.zeros(3)})
    assert tree_digest(tree) != tree_digest({"a": np.zeros(3), "c": np.ones(2)})


def test_foreign_classes_count_with_their_source():
    assert describe(Own())["type"]["source"] is not None
    assert describe(Top1()) == {"type": "pp_jax.defenses.truncation.Top1"}


@pytest.mark.parametrize("value", [lambda x: x, object(), Own(object())], ids=["lambda", "object", "inside"])
def test_what_cannot_be_told_is_refused_in_one_line(value):
    with pytest.raises(ValueError, match=r"mine(\.value)? is") as caught:
        describe(value, where="mine")
    assert "\n" not in str(caught.value)
