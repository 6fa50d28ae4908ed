"""What errors quote of foreign files is shown in one line."""

import pickle

import pytest

from pp_jax._messages import one_line
from pp_jax.data.types import DataError, DatasetCorrupt, DatasetMissing, SourceUnavailable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a plain Größe × 2", "a plain Größe × 2"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[2Jcleared", "\\x1b[2Jcleared"),
        ("half \ud800 a character\u2028", "half \\ud800 a character\\u2028"),
    ],
)
def test_what_does_not_print_is_escaped(text, shown):
    assert one_line(text) == shown
    assert one_line(shown) == shown


def test_a_long_middle_is_left_out_and_the_ends_are_kept():
    shown = one_line("begin" + "x" * 5000 + "end")
    assert len(shown) == 800
    assert shown.startswith("beginx")
    assert shown.endswith("xend")
    assert " … " in shown


@pytest.mark.parametrize("kind", [DataError, DatasetCorrupt, DatasetMissing, SourceUnavailable])
def test_errors_about_data_are_one_line_also_in_another_process(kind):
    error = kind("a\nb.png is damaged")
    assert str(error) == "a\\nb.png is damaged"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
