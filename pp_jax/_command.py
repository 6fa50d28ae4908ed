"""What every command does about its standard streams: letters that they lack, a closed one, a reader that has gone."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterator

_SIGNS = {
    **{"–": "-", "—": "-", "−": "-", "─": "-", "━": "-", "│": "|", "…": "...", "·": "*", "×": "x", "±": "+-"},
    **{"≤": "<=", "≥": ">=", "≠": "!=", "←": "<-", "→": "->", "∞": "inf", "ỹ": "y~", "ŷ": "y^", "‖": "||"},
}


@contextlib.contextmanager
def command() -> Iterator[None]:
    """Run a command, as a decorator of its `main`: what it prints reaches any standard output, or is given up quietly.

    Letters that the output's encoding lacks are spelled in ASCII (ε as epsilon, – as -, others as ``\\u1234``). A
    standard stream that is closed counts as `os.devnull`, so that no file opened later takes its number.

    Yields:
      Nothing.

    Raises:
      SystemExit: 1, in silence, where who reads the output has gone (`| head`); with one line where the output cannot
        be written, for instance on a full disk.
    """
    codecs.register_error("pp_jax.spelled", _spelled)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="pp_jax.spelled")
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError:
        _give_up()
        sys.exit(1)


def sentence(error: BaseException) -> str:
    """An error in one line, without the number that the operating system gives it."""
    return " ".join(re.sub(r"^\[Errno -?[0-9]+\] ", "", str(error)).splitlines())


def _flush() -> None:
    """Write what is printed and not yet out."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up()
        sys.exit(f"error: cannot write to the standard output ({error.strerror})")


def _give_up() -> None:
    """Send what is still printed nowhere, so that the interpreter does not fail on it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """An error handler of `codecs`: ASCII for what an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spell, error.object[error.start : error.end])), error.end


def _spell(letter: str) -> str:
    """A letter in ASCII."""
    if letter in _SIGNS:
        return _SIGNS[letter]
    if "\udc80" <= letter <= "\udcff":  # a byte of a file's name that was no letter in the file system's encoding
        return f"\\x{ord(letter) - 0xDC00:02x}"
    name = unicodedata.name(letter, "")
    if name.startswith("GREEK SMALL LETTER "):
        return name.split()[-1].lower()
    plain = unicodedata.normalize("NFKD", letter)
    return plain if plain.isascii() else letter.encode("ascii", "backslashreplace").decode()
