"""Figures look alike and are drawn whatever the user's matplotlib is set to, which stays as it is."""

import matplotlib
import pytest

from commands import run
from pp_jax import plots
from pp_jax._matplotlib import defaults

SETTINGS = {"font.size": 30.0, "axes.facecolor": "red", "savefig.bbox": "tight", "text.usetex": True, "figure.dpi": 7.0}
CURVE = {"a": [(0.0, [1.0]), (1.0, [2.0])]}
LOADED = """
import os, sys
from pp_jax._matplotlib import load
matplotlib = load()
assert os.environ["MPLBACKEND"] == "{0}"
assert {0!r} != "svg" or matplotlib.get_backend() == "svg"
assert "matplotlib.pyplot" not in sys.modules
from pp_jax import plots
plots.png(plots.heatmap([[1.0]], rows=["a"], columns=["b"], title="c", unit="d", limits=(0, 1)))
assert "matplotlib.pyplot" not in sys.modules
"""


def drawn():
    """A figure's bytes."""
    return plots.png(plots.curves(CURVE, x_label="x", y_label="y", title="ε"))


def test_figures_do_not_depend_on_the_users_settings_and_leave_them():
    plain = drawn()
    with matplotlib.rc_context(SETTINGS):
        before = dict(matplotlib.rcParams)
        assert drawn() == plain
        assert dict(matplotlib.rcParams) == before


def test_the_users_settings_are_back_after_an_error():
    with matplotlib.rc_context(SETTINGS):
        with pytest.raises(ValueError), defaults():
            raise ValueError
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize(
    "name",
    [
        "module://matplotlib_inline.backend_inline",
        pytest.param("svg", marks=pytest.mark.slow),
        pytest.param("nonsense", marks=pytest.mark.slow),
    ],
)
def test_matplotlib_loads_with_any_backend_named_and_keeps_one_that_is_there(name, tmp_path):
    run(start=LOADED.format(name), MPLBACKEND=name, MPLCONFIGDIR=tmp_path)
