"""Names of files and classes, compared as people compare them."""

import re


def natural(name: str) -> list[str | int]:
    """A sort key that puts part 10 after part 9."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)]


def letters(name: str) -> str:
    """A name without what spellings differ in: case, blanks, hyphens, underscores and other marks."""
    return "".join(filter(str.isalnum, name.lower()))


def plain(name: str) -> str:
    """A class name without what spellings differ in; a number without leading zeros."""
    short = letters(name)
    return str(int(short)) if short.isdecimal() and short.isascii() else short or name
