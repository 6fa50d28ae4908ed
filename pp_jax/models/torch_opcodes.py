"""A look at the opcodes of a pickle before they are carried out: none may ask for more than the file can be worth.

Python's unpickler takes a file at its word. Six bytes make it reserve gigabytes for its memo, and forty that pair a
tuple with itself, and the pair with itself, give a key whose hash takes hours.
"""

import os
import pickletools
from collections.abc import Iterable
from typing import IO, Any, cast

_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
# What is never hashed, whatever it holds.
_FILLED = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD", "LIST", "DICT"}
_LARGEST = 10_000


def check(file: IO[bytes]) -> None:
    """Refuse a pickle that would take memory or time beyond its size; the file is left where it was.

    Args:
        file: at the beginning of the pickle.

    Raises:
        ValueError: if the pickle is damaged, or reserves more than there is, or holds a tuple of more than 10 000
            parts, those of its parts included.
    """
    start = file.tell()
    stack: list[int | None] = []
    memo: dict[int, int | None] = {}
    rest = _Rest(file)
    steps: Iterable[tuple[Any, Any, Any]] = pickletools.genops(cast(IO[bytes], rest))
    for number, (opcode, argument, _) in enumerate(steps):
        if opcode.name == "FRAME" and argument > rest.left:
            raise ValueError(f"its pickle announces {argument} bytes where {rest.left} are left")
        if opcode.name in _PUTS or opcode.name == "MEMOIZE":
            place = len(memo) if opcode.name == "MEMOIZE" else argument
            if place > number:
                raise ValueError(f"its pickle counts {place} objects after {number} steps")
            memo[place] = stack[-1]
        elif opcode.name in _GETS:
            stack.append(memo[argument])
        else:
            _step(stack, opcode)
        if stack and (stack[-1] or 0) > _LARGEST:
            raise ValueError(f"its pickle holds a tuple of more than {_LARGEST} parts")
    file.seek(start)


def _step(stack: list[int | None], opcode: Any) -> None:
    """Carry out an opcode on a stack of sizes, in which None stands for a mark."""
    if opcode.name == "DUP":
        stack.append(stack[-1])
        return
    taken: list[int | None] = []
    below = [*opcode.stack_before]
    if pickletools.markobject in below:
        below = below[: below.index(pickletools.markobject)]
        while (part := stack.pop()) is not None:
            taken.append(part)
    taken += [stack.pop() for _ in below]
    size = 1 if opcode.name in _FILLED else 1 + sum(part or 0 for part in taken)
    stack += [None if kind is pickletools.markobject else size for kind in opcode.stack_after]


class _Rest:
    """What a file has from here on: a request for more than that gets what there is, and reserves nothing."""

    def __init__(self, file: IO[bytes]) -> None:
        start = file.tell()
        self._file, self.left = file, file.seek(0, os.SEEK_END) - start
        file.seek(start)

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        data = self._file.read(min(size, self.left))
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        """A line."""
        data = self._file.readline()
        self.left -= len(data)
        return data
