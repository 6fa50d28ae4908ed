"""Matplotlib for figures that belong to no global state, whatever the user's environment says of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType


def load() -> ModuleType:
    """Matplotlib, also where $MPLBACKEND names a backend that is not installed here.

    A notebook's kernel sets MPLBACKEND for every command it starts, and a command may run in another environment than
    the kernel; `import matplotlib` then fails. Figures of this package need no backend of the user's.

    Returns:
      The module; its backend is the user's where that exists.
    """
    named = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named:
        with contextlib.suppress(ValueError):  # not installed
            matplotlib.rcParams["backend"] = named
    return matplotlib


@contextlib.contextmanager
def defaults() -> Iterator[None]:
    """Draw with matplotlib's default settings, whatever a matplotlibrc or a style of the user's says; then as before.

    Yields:
      Nothing.
    """
    matplotlib = load()
    settings = matplotlib.rcParamsDefault.items()
    with matplotlib.rc_context({name: value for name, value in settings if not name.startswith("backend")}):
        yield
