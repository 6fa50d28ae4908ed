"""The state dict among all that was saved with it, and its names without what wrappers put before them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pp_jax.models.torch_pickle import Inert, Odd, Tensor

T = TypeVar("T")

# What DataParallel, torch.compile, Lightning and customary wrappers put before every name.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
# The counter of torch.optim.swa_utils.AveragedModel, beside the names that it wraps.
_COUNTER = "n_averaged"
_FLOATS = ("float", "bfloat", "complex", "q")
# Places that a message lists.
_SHOWN = 8


class Refused(Exception):
    """A file holds no state dict, or several."""


class _Found(NamedTuple):
    """Tensors by name, and the place in the tree, from its root."""

    place: tuple[str, ...]
    tensors: dict[str, Any]

    @property
    def label(self) -> str:
        """The place as `key` takes it."""
        return ".".join(self.place)

    @property
    def rank(self) -> tuple[bool, bool]:
        """The parameters of a network are more than one number each, and have a layer in their names."""
        layers = [value for name, value in self.tensors.items() if "." in name]
        return (any(map(_weighs, self.tensors.values())), any(map(_weighs, layers)))


def find(tree: Any, key: str | None) -> dict[str, Any]:
    """The tensors by name in what was saved, wherever they are.

    Args:
        tree: what a pickle describes.
        key: where they are, such as "state_dict" or "ema.model", if there are several.

    Returns:
        Descriptions by name; numbers and whatever else stands beside them are left out.

    Raises:
        Refused: where there are none, or several and no key; the message names them.
    """
    found = list(_search(tree, (), set()))
    if not found:
        raise Refused(f"it holds {_described(tree)}")
    best = max(one.rank for one in found)
    likely = [one for one in found if one.rank == best]
    if key is not None:
        likely = _under(key, likely) or _under(key, found)
        if not likely:
            raise Refused(f"it holds no tensors under {key!r}, but {_listed(found)}")
    distinct = [one for i, one in enumerate(likely) if all(one.tensors != other.tensors for other in likely[:i])]
    if len(distinct) > 1:
        raise Refused(f"it holds several, {_listed(distinct)}: choose one with --key (key= from Python)")
    return distinct[0].tensors


def unprefixed(tensors: Mapping[str, T]) -> dict[str, T]:
    """Names without what wrappers have put before all of them, such as "module._orig_mod."."""
    rest = [name for name in tensors if name != _COUNTER]
    for prefix in _WRAPPERS:
        if rest and all(name.startswith(prefix) for name in rest):
            return unprefixed({name.removeprefix(prefix): tensors[name] for name in rest})
    return dict(tensors)


def _search(node: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[_Found]:
    """Every group of tensors with names; the modules that were saved whole as their state dicts."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if _is_module(node):
        yield _Found(place, dict(_of_module(node, "", set())))
        return
    entries = list(_entries(node))
    names = {name: value for name, value in entries if isinstance(value, Tensor | Odd) and isinstance(name, str)}
    if names:
        yield _Found(place, names)
    if not _is_optimizer(node):
        for name, value in entries:
            if isinstance(value, Mapping | list | tuple | Inert):
                yield from _search(value, (*place, str(name)), seen)


def _entries(node: Any) -> Iterator[tuple[Any, Any]]:
    """What is in a dict, a list, a tuple or an object, by key, place or attribute."""
    if isinstance(node, Tensor | Odd):
        return
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from enumerate(node)
    elif isinstance(node, Inert):
        for part in (node.arguments, node.members, node.entries, node.state):
            yield from _entries(part)


def _is_module(node: Any) -> bool:
    """Whether this is a torch.nn.Module that was saved whole."""
    return (
        isinstance(node, Inert)
        and isinstance(node.state, Mapping)
        and all(isinstance(node.state.get(part), Mapping) for part in ("_parameters", "_buffers", "_modules"))
    )


def _of_module(module: Inert, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Parameters and buffers of a module and of those in it, under the names of its state dict."""
    if id(module) in seen:
        return
    seen.add(id(module))
    transient = module.state.get("_non_persistent_buffers_set")
    left_out = transient.arguments[0] if isinstance(transient, Inert) and transient.arguments else ()
    for name, value in (*module.state["_parameters"].items(), *module.state["_buffers"].items()):
        if isinstance(value, Tensor | Odd) and name not in left_out:
            yield f"{prefix}{name}", value
    for name, child in module.state["_modules"].items():
        if _is_module(child):
            yield from _of_module(child, f"{prefix}{name}.", seen)


def _is_optimizer(node: Any) -> bool:
    """Whether this is the state dict of an optimizer."""
    return isinstance(node, Mapping) and "param_groups" in node and "state" in node


def _weighs(value: Any) -> bool:
    """Whether this may be a parameter."""
    return isinstance(value, Odd) or (value.shape != () and value.storage.dtype.startswith(_FLOATS))


def _under(key: str, found: list[_Found]) -> list[_Found]:
    """What is at a place; else, what is in it or at the end of it."""
    exact = [one for one in found if one.label == key]
    within = [one for one in found if one.label.startswith(f"{key}.")]
    return exact or within or [one for one in found if one.place and one.place[-1] == key]


def _described(tree: Any) -> str:
    """What there is where tensors should be."""
    if _is_optimizer(tree):
        return "the state of an optimizer and no weights"
    if isinstance(tree, Inert):
        return f"an object of {tree.name} without tensors; it was not run"
    if isinstance(tree, list | tuple) and any(isinstance(value, Tensor | Odd) for value in tree):
        return f"a {type(tree).__name__} of tensors without names"
    if isinstance(tree, Tensor | Odd):
        return "one tensor without a name"
    if isinstance(tree, Mapping) and tree:
        name, value = next(iter(tree.items()))
        kind = f"an object of {value.name}, which was not run," if isinstance(value, Inert) else type(value).__name__
        return f"no tensors with names, but {kind} under {name!r}"
    return "nothing" if isinstance(tree, Mapping) else f"no tensors with names, but {type(tree).__name__}"


def _listed(found: list[_Found]) -> str:
    """Where tensors are, and how many."""
    shown = [f"{one.label or 'the top'} ({len(one.tensors)} tensors)" for one in found[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
