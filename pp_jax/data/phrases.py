"""Phrases for the line that says what was left out of a set, and names that can be printed."""

import re
from collections.abc import Collection

_SHOWN = 3
_LONGEST = 120


def counted(names: Collection[str], one: str, several: str = "") -> tuple[str, ...]:
    """A count with the first names, such as "2 files that are no whole image (A/x.png, F/y.png)"; no phrase for none.

    Args:
        names: what is counted.
        one: what it is if there is one.
        several: what it is otherwise; `one` with an s if this is empty.
    """
    if not names:
        return ()
    first = [shown(name) for name in list(names)[:_SHOWN]]
    what = one if len(names) == 1 else several or f"{one}s"
    return (f"{len(names)} {what} ({', '.join(first)}{', …' if len(names) > _SHOWN else ''})",)


def shown(name: str) -> str:
    """A file's name that can be printed on one line, whatever bytes it has."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: f"\\x{ord(found[0]):02x}", text)


def why(error: Exception) -> str:
    """What an exception of a library says, in a part of a line; its kind, if it says nothing."""
    text = shown(str(error))
    return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…") or type(error).__name__
