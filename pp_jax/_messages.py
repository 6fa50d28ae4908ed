"""Messages of errors that quote foreign bytes: names in an archive, values in a file."""

_LONGEST = 800


def one_line(text: str) -> str:
    """A text as one line that any terminal can show: what does not print is escaped, a very long middle left out.

    A file can name its parts as it likes, with line breaks, with codes that move a terminal's cursor, or with 60 000
    characters.
    """
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST // 2]} … {shown[-_LONGEST // 2 + 3 :]}"
