"""Which parameters a network uses only in layer calls that it reports: found once, from shapes, while tracing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from pp_jax.gram.calls import Call, Tapped
from pp_jax.gram.contractions import alike
from pp_jax.types import Params

Outputs = list[tuple[frozenset[str], jax.ShapeDtypeStruct]]


class Survey(NamedTuple):
    """What a traced forward pass shows of a network.

    Attributes:
        known: paths of the parameters that nothing but reported calls of one kind uses.
        outputs: for every reported call, in order, its parameters' paths and the shape of its output.
    """

    known: frozenset[str]
    outputs: Outputs


def paths(params: Params) -> list[str]:
    """Paths of the leaves of `params` in order, keys joined by "/"."""
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(params)]


def survey(logits_fn: Tapped, params: Params, image: jax.Array) -> Survey:
    """Trace a network and tell apart the parameters that its reported calls account for.

    A parameter that the logits, or the input of a reported call, reach other than through the output of a reported call
    is not known: its gradient is more than its calls say (a table that also serves as the output layer, say).

    Args:
        logits_fn: the network.
        params: its parameters; only shapes matter.
        image: one image; only its shape matters.
    """
    calls: list[Call] = []
    outputs: list[jax.Array] = []

    def report(params: Params, image: jax.Array) -> Any:
        calls.clear()
        outputs.clear()

        def tap(call: Call, output: jax.Array) -> jax.Array:
            calls.append(call)
            outputs.append(output)
            return output

        return logits_fn.tapped(params, image, tap), list(calls), list(outputs)

    names = paths(params)
    jaxpr = jax.make_jaxpr(report)(params, image).jaxpr
    cut = len(jaxpr.outvars) - len(outputs)
    elsewhere = _reached(jaxpr, len(names), jaxpr.outvars[:cut], jaxpr.outvars[cut:])
    clean = {name for index, name in enumerate(names) if index not in elsewhere}
    known = frozenset(name for name in clean.intersection(*[set().union(*calls)]) if alike(uses(name, calls)))
    shapes = [jax.ShapeDtypeStruct(output.shape, output.dtype) for output in outputs]
    return Survey(known, [(frozenset(call), shape) for call, shape in zip(calls, shapes, strict=True)])


def uses(name: str, calls: Sequence[Call]) -> list[Any]:
    """The factors of one parameter in all the calls that use it."""
    return [call[name] for call in calls if name in call]


def _reached(jaxpr: Any, count: int, ends: Sequence[Any], barriers: Sequence[Any]) -> frozenset[int]:
    """Which of the first `count` inputs reach `ends` without passing through `barriers`, taking no equation apart."""
    stopped = {id(var) for var in barriers}
    sources = {id(var): frozenset([index]) for index, var in enumerate(jaxpr.invars[:count])}
    for equation in jaxpr.eqns:
        reached = _union(sources, equation.invars)
        sources.update({id(var): reached for var in equation.outvars if id(var) not in stopped})
    return _union(sources, ends)


def _union(sources: dict[int, frozenset[int]], variables: Sequence[Any]) -> frozenset[int]:
    """Everything that any of the variables comes from."""
    return frozenset().union(*(sources.get(id(var), frozenset()) for var in variables))
