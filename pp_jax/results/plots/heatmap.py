"""A table of numbers as colours: who does what to whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pp_jax import _matplotlib
from pp_jax.results.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMN, _ROW, _MARGIN = 0.95, 0.38, 2.2  # inches


@_matplotlib.defaults()
def heatmap(
    values: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    unit: str,
    limits: tuple[float, float],
    apart: int = 0,
) -> Figure:
    """Draw a table with a colour and its number in every cell.

    Args:
      values: a row of numbers for each of `rows`; None where there is none.
      rows: their names.
      columns: names of the columns.
      title: of the figure.
      unit: what the numbers are, for the colour bar.
      limits: the values of the darkest and the brightest colour.
      apart: so many of the last columns sum up the others, and stand apart from them.

    Returns:
      A figure that belongs to no global state.

    Raises:
      ValueError: for a table that is empty or not of the shape of its names, or a number that cannot be drawn.
    """
    _check(values, rows, columns)
    figure = style.blank(_MARGIN + _COLUMN * len(columns) + 1.2, 1.9 + _ROW * len(rows))
    figure.suptitle(title, fontsize=13, fontweight="bold", color=style.INK)
    axes = figure.subplots()
    numbers = [[math.nan if value is None else value for value in row] for row in values]
    image = axes.imshow(numbers, cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto")
    middle = (limits[0] + limits[1]) / 2
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            ink = style.INK if value is None or value > middle else "white"
            text = "–" if value is None else f"{value:.1f}"
            axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=10)
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", fontsize=10)
    axes.set_yticks(range(len(rows)), rows, fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if apart:
        axes.axvline(len(columns) - apart - 0.5, color="white", linewidth=5)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).set_label(unit, color=style.INK)
    return figure


def _check(values: Sequence[Sequence[float | None]], rows: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse what cannot be drawn."""
    if not rows or not columns or len(values) != len(rows) or any(len(row) != len(columns) for row in values):
        shape = f"{len(values)} rows of {sorted({len(row) for row in values})}"
        raise ValueError(f"values has {shape} numbers: must be {len(rows)} rows of {len(columns)}, at least 1 of each")
    for name, row in zip(rows, values, strict=True):
        if not all(value is None or math.isfinite(value) for value in row):
            raise ValueError(f"values has {list(row)} in row {name!r}: must be finite or None")
