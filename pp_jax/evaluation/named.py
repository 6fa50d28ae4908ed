"""Defenses and attackers by text, for command lines: ours by name, yours by file."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from pp_jax import _files, defenses
from pp_jax.evaluation import attackers, strategies
from pp_jax.evaluation.attackers import Attacker
from pp_jax.evaluation.entries import Entry


def defense(text: str) -> Entry:
    """An entry from `MAD(epsilon=0.99)`, `Top1`, `none`, or `mine.py:Mine(0.3)`.

    Names are those of `pp_jax.defenses`, or of the file before the colon; values in the parentheses are Python
    literals. A class is an entry of that class; an object of a file (`mine.py:ready`) is taken as it is.

    Raises:
        ValueError: for a text that cannot be read, a file that does not import, or a name that there is not, with the
            nearest one that there is.
    """
    if text == "none":
        return Entry(defenses.chain())
    place, name, args, keywords = _parse(text, "defense")
    module: Any = defenses if place is None else load(place)
    found = _attribute(module, name, "defense", place)
    if isinstance(found, Entry):
        return found
    if args:
        try:
            return Entry(found(*args, **keywords))
        except TypeError as error:
            raise ValueError(f"defense is {text}: {error}") from error
    return Entry(found, **keywords)


def attacker(text: str) -> Attacker:
    """An attacker of `STANDARD` or `ACTIVE` by name, of `evaluation.attackers`, or `mine.py:MINE`.

    Raises:
        ValueError: as `defense`.
    """
    for known in (*attackers.STANDARD, *strategies.ACTIVE):
        if known.name == text:
            return known
    place, name, args, keywords = _parse(text, "attacker") if ":" in text else (None, text, (), {})
    module: Any = attackers if place is None else load(place)
    found = _attribute(module, name, "attacker", place)
    if isinstance(found, type) or args or keywords:
        found = found(*args, **keywords)
    if not isinstance(found, Attacker):
        raise ValueError(f"attacker is {text}: must be an Attacker, not {type(found).__name__}")
    return found


def load(path: str) -> ModuleType:
    """A Python file as a module, imported once.

    Raises:
        ValueError: for a file that is not there or does not import, with the reason.
    """
    file = _files.expanded(path).resolve()
    if not file.is_file():
        raise ValueError(f"{path} is no file: give a Python file, as in mine.py:Mine")
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be imported: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while they are made
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return module


def _parse(text: str, what: str) -> tuple[str | None, str, tuple[Any, ...], dict[str, Any]]:
    """File, name, positional and keyword values."""
    place: str | None = None
    call = text
    if ".py:" in text:
        place, _, call = text.rpartition(".py:")
        place += ".py"
    try:
        node = ast.parse(call, mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            keywords = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords if word.arg}
            return place, node.func.id, tuple(map(ast.literal_eval, node.args)), keywords
        if isinstance(node, ast.Name):
            return place, node.id, (), {}
    except (SyntaxError, ValueError):
        pass
    raise ValueError(f"{what} is {text!r}: must be Name, Name(parameter=value, …) or file.py:Name(…)")


def _attribute(module: Any, name: str, what: str, place: str | None) -> Any:
    """An attribute of a module, or an error with the nearest name."""
    if hasattr(module, name):
        return getattr(module, name)
    known = [word for word in vars(module) if not word.startswith("_")]
    if place is None:
        wanted = type if what == "defense" else Attacker
        known = [word for word in known if isinstance(getattr(module, word), wanted)]
        members = (*attackers.STANDARD, *strategies.ACTIVE)
        known += [member.name for member in members] if what == "attacker" else []
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    raise ValueError(f"{what} is {name}: {place or 'pp_jax'} has no such name; {hint}")
