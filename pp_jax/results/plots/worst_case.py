"""What a defense seems to be worth, and what an informed attacker wins back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pp_jax import _matplotlib
from pp_jax.results.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 0.55  # inches


class Gap(NamedTuple):
    """One defense, accuracies in %.

    Attributes:
        name: the defense.
        plain: the stolen model of an attacker that knows nothing.
        worst: that of the attacker who gets most.
        by: who that is.
        defender: the defender's own.
    """

    name: str
    plain: float
    worst: float
    by: str
    defender: float


@_matplotlib.defaults()
def worst_case(rows: Sequence[Gap], *, title: str, undefended: float, chance: float) -> Figure:
    """Draw for each defense the plain attacker, the worst case, and the defender.

    Args:
      rows: one a defense, from top to bottom.
      title: of the figure.
      undefended: the worst case without a defense, in %, drawn as a line.
      chance: accuracy of guessing, in %.

    Returns:
      A figure that belongs to no global state.

    Raises:
      ValueError: for no rows.
    """
    if not rows:
        raise ValueError("rows is empty: must be at least one defense")
    figure = style.blank(10.5, 2.1 + _ROW * len(rows))
    figure.suptitle(title, fontsize=13, fontweight="bold", color=style.INK)
    axes = figure.subplots()
    places = range(len(rows))
    axes.axvline(undefended, color="#BBBBBB", linewidth=1.2, zorder=0, label="worst case without a defense")
    axes.axvline(chance, **style.CHANCE)
    for y, row in zip(places, rows, strict=True):
        axes.plot([row.plain, row.worst], [y, y], color=style.COLORS[1], linewidth=5, alpha=0.35, zorder=1)
        text = f"{row.worst:.0f} %  {row.by}"
        axes.annotate(text, (row.worst, y - 0.3), fontsize=9.5, color=style.COLORS[1], ha="center")
    looks: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("worst", "worst case: informed attacker", {"color": style.COLORS[1], "marker": "o"}),
        (
            "plain",
            "plain attacker: knows of no defense",
            {"color": style.COLORS[0], "marker": "o", "fillstyle": "none"},
        ),
        ("defender", "defender", {"color": style.COLORS[2], "marker": "|", "markeredgewidth": 2.5}),
    )
    for name, label, look in looks:
        values = [getattr(row, name) for row in rows]
        axes.plot(values, list(places), linestyle="", markersize=9, zorder=3, label=label, **look)
    axes.set_yticks(places, [row.name for row in rows], fontsize=10.5)
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_xlim(0, 104)
    axes.set_xlabel("test accuracy (%)", color=style.INK)
    style.tidy(axes)
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure
