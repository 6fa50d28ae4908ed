"""The contracts of `types`: whether an object is the defense, oracle, solver or recovery that it is taken for."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks.keys import check_random_key
from pp_jax._checks.posteriors import violations
from pp_jax.types import Defense, StatefulDefense, TruncatingDefense

_MISSING = object()
_SCALARS = (bool, int, float, complex, np.generic)

_DEFENSE_TRAITS = {
    "random": "True if its responses depend on query.key, else False",
    "reads_image": "True if its responses depend on query.image, else False",
}
_DECLARE = "or declare a function with oracle.declare(keeps_argmax=…, random=…)"
_ORACLE_TRAITS = {
    "keeps_argmax": f"True if the top class of y stays on top, else False; {_DECLARE}",
    "random": f"True if it draws with key, else False; {_DECLARE}",
    "vertex": f"True if it always names a one-hot, else False; {_DECLARE}",
    "takes_step": f"True if it accepts step, else False; {_DECLARE}",
}
_SOLVER_TRAITS = {
    "keeps_argmax": "True if the top class of y stays on top, else False",
    "random": "True if its responses depend on key, else False",
}


def name_of(thing: Any) -> str:
    """What an error calls an object: the name of a function, the class of anything else."""
    if isinstance(thing, functools.partial):
        return f"partial of {name_of(thing.func)}"
    return str(getattr(thing, "__name__", type(thing).__name__))


def check_defense(defense: Any) -> None:
    """Refuse what is no defense: the contract of `types.Defense` or `types.StatefulDefense`.

    Raises:
        ValueError: naming the object and what is missing: the call, a trait that is not True or False, leaves that are
            no arrays, a static field that cannot be hashed.
    """
    name = name_of(defense)
    if isinstance(defense, type):
        raise ValueError(f"the defense must be an instance, {name}(…), not the class {name} itself")
    if not callable(defense):
        raise ValueError(f"{name} must be callable as defense(probs, query) to be a defense")
    _check_traits(defense, _DEFENSE_TRAITS)
    flat: Any = jax.tree.flatten(defense)
    leaves, structure = flat
    for leaf in leaves:
        if not isinstance(leaf, (jax.Array, np.ndarray, *_SCALARS)):
            what = "it is not one" if leaf is defense else f"it holds {type(leaf).__name__}"
            raise ValueError(
                f"{name} must be a pytree of arrays, a frozen dataclass under pp_jax.pytree.pytree, but {what}"
            )
    # The structure itself hashes whatever it holds: what fails is a later comparison, in the midst of JAX.
    node = structure.node_data()
    _check_hashable(name, None if node is None else node[1], "its static fields must be hashable")


def check_oracle(oracle: Any) -> None:
    """Refuse what is no oracle: the contract of `types.Oracle`.

    Raises:
        ValueError: naming the object, the trait that it does not state, and what to write.
    """
    if not callable(oracle) or isinstance(oracle, type):
        raise ValueError(f"{name_of(oracle)} must be callable as oracle(probs, gram, objective=…, key=…), an instance")
    _check_traits(oracle, _ORACLE_TRAITS)
    _check_hashable(name_of(oracle), oracle, "it must be hashable, such as a frozen dataclass")


def check_solver(solver: Any) -> None:
    """Refuse what is no solver: the contract of `types.Solver`.

    Raises:
        ValueError: naming the object and the trait that it does not state.
    """
    if not callable(solver) or isinstance(solver, type):
        raise ValueError(f"{name_of(solver)} must be a solver of pp_jax.solvers or one's own, an instance")
    _check_traits(solver, _SOLVER_TRAITS)
    if not callable(getattr(solver, "check", None)):
        raise ValueError(f"{name_of(solver)} must have check(distance), which raises ValueError for what it cannot do")
    _check_hashable(name_of(solver), solver, "it must be hashable, such as a frozen dataclass")


def check_recovery(recovery: Any) -> None:
    """Refuse an object that is no recovery.

    Raises:
        ValueError: naming the object and what it lacks.
    """
    for name in ("applies_to", "__call__"):
        if not callable(getattr(recovery, name, None)):
            raise ValueError(f"{name_of(recovery)} has no method {name}: a recovery must have applies_to and __call__")


def remembers(defense: Any) -> bool:
    """Whether a defense has a memory, which is to be threaded from query to query."""
    return isinstance(defense, StatefulDefense)


def normalises(defense: Any) -> bool:
    """Whether the responses of a defense sum to one: all do but a truncation that says otherwise."""
    return not isinstance(defense, TruncatingDefense) or defense.normalised


def check_forgetful(defense: Any) -> None:
    """Refuse a defense with a memory where each query is answered by itself.

    Raises:
        ValueError: naming the defense.
    """
    if remembers(defense):
        name = name_of(defense)
        raise ValueError(f"{name} remembers its answers: ask it in a session() of its black box or by perturb_sequence")


def check_key(defense: Defense | StatefulDefense[Any], key: jax.Array | None) -> None:
    """Refuse a random defense without a key, and what is no key.

    Raises:
        ValueError: naming the defense, or what was found in place of a key.
    """
    if key is not None:
        check_random_key(key)
    elif defense.random:
        raise ValueError(f"{name_of(defense)} draws random numbers: it needs key=jax.random.key(…), not None")


def check_classes(own: int, victims: int) -> None:
    """Refuse a defense's network that knows another number of classes than the victim.

    Raises:
        ValueError: naming both numbers.
    """
    if own != victims:
        raise ValueError(f"the defense's network knows {own} classes, the victim's posterior has {victims}")


def check_response(defense: Any, response: Any, probs: jax.Array) -> jax.Array:
    """Return the response of a defense to one posterior, refused if it has another shape or is no floating point.

    Raises:
        ValueError: naming the defense and both shapes, or the dtype.
    """
    if not isinstance(response, jax.Array | np.ndarray):
        raise ValueError(f"{name_of(defense)} returned {type(response).__name__}, must be an array of {probs.shape}")
    if response.shape != probs.shape:
        raise ValueError(f"{name_of(defense)} returned shape {response.shape}, must be {probs.shape}")
    if not jnp.issubdtype(response.dtype, jnp.floating):
        raise ValueError(f"{name_of(defense)} returned {response.dtype}, must be floating point")
    return jnp.asarray(response)


def check_memory(defense: Any, before: Any, after: Any) -> None:
    """Refuse a memory of another form than the one that was handed in: the next query could not take it.

    Raises:
        ValueError: naming the defense; what differs is the cause.
    """
    # Imported where it is used, as it is by nothing else in the core: `import pp_jax` stays light.
    import chex

    try:
        chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    except AssertionError as error:
        name = name_of(defense)
        raise ValueError(f"{name} returned a memory of another structure, shape or dtype than it was given") from error


def response_violations(defense: Any, responses: jax.Array) -> jax.Array:
    """Count, as `violations`, what is wrong with the responses (B, K) of a defense; a truncation's sum may be off."""
    counts = violations(responses)
    return counts if normalises(defense) else counts.at[2].set(0)


def _check_traits(thing: Any, traits: dict[str, str]) -> None:
    """Refuse an object that does not state each of its traits as True or False."""
    for trait, meaning in traits.items():
        value = getattr(thing, trait, _MISSING)
        if value is _MISSING:
            raise ValueError(f"{name_of(thing)} must state `{trait}`: {meaning}")
        if not isinstance(value, bool):
            raise ValueError(f"{name_of(thing)}.{trait} must be {meaning}, not {value!r}")


def _check_hashable(name: str, value: Any, requirement: str) -> None:
    """Refuse what cannot be a static argument of a compiled program."""
    try:
        hash(value)
    except TypeError as error:
        raise ValueError(f"{name} cannot be compiled: {requirement} ({error})") from error
