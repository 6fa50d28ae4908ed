"""One quantity against another, a line a case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pp_jax import _matplotlib
from pp_jax.results.plots import style
from pp_jax.results.summary import Range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, Sequence[float]]
"""Where on the x axis, and the values there, one a seed."""

_WIDTH = 12.0
_APART = 0.055  # of the axis, between two tick labels


@_matplotlib.defaults()
def curves(
    series: Mapping[str, Sequence[Point]],
    *,
    x_label: str,
    y_label: str,
    title: str,
    logx: bool = False,
    chance: float | None = None,
) -> Figure:
    """Draw a line a case through the means over seeds, with the range over seeds as whiskers.

    Args:
      series: label of a curve to its points ``(x, values over seeds)``, in any order; values in the unit of the y axis.
      x_label: what x is.
      y_label: what y is, with its unit.
      title: of the figure.
      logx: whether the x axis is logarithmic.
      chance: the value of y that guessing reaches, drawn as a dashed line.

    Returns:
      A figure, 1200 pixels wide, that belongs to no global state; ticks are at the x of the points.

    Raises:
      ValueError: there is no curve, a curve has no point, a point has no value, or a number cannot be drawn.
    """
    _check(series, logx=logx)
    figure = style.blank(_WIDTH, 6.4)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=style.INK)
    axes = figure.subplots()
    if logx:
        axes.set_xscale("log")
    for (label, points), look in zip(series.items(), style.looks(series).values(), strict=True):
        ordered = sorted(points, key=lambda point: point[0])
        x = [Range(place, place, place) for place, _ in ordered]
        y = [Range(math.fsum(values) / len(values), min(values), max(values)) for _, values in ordered]
        style.line(axes, x, y, label=label, markersize=7, linewidth=1.8, **look)
    if chance is not None:
        axes.axhline(chance, **style.CHANCE)
    axes.set_xlabel(x_label, fontsize=11.5, color=style.INK)
    axes.set_ylabel(y_label, fontsize=11.5, color=style.INK)
    axes.tick_params(labelsize=10.5)
    style.tidy(axes)
    _mark_places(axes, sorted({float(x) for points in series.values() for x, _ in points}))
    style.legend_below(figure, axes, width=_WIDTH)
    return figure


def _check(series: Mapping[str, Sequence[Point]], *, logx: bool) -> None:
    """Refuse what cannot be drawn."""
    if not series:
        raise ValueError("series is empty: a plot needs at least one curve")
    for label, points in series.items():
        if not points:
            raise ValueError(f"series[{label!r}] is empty: a curve needs at least one point")
        for x, values in points:
            if len(values) == 0:
                raise ValueError(f"series[{label!r}] has no value at x = {x:g}: must have one a seed")
            if not all(map(math.isfinite, [x, *values])):
                raise ValueError(f"series[{label!r}] has {list(values)} at x = {x:g}: must be finite")
            if logx and x <= 0:
                raise ValueError(f"series[{label!r}] has a point at x = {x:g}: must be above 0 where logx is True")


def _mark_places(axes: Axes, places: Sequence[float]) -> None:
    """Ticks at the x of the points, as many as have room for their numbers."""
    level = axes.get_ylim()[0]
    fractions = axes.transAxes.inverted().transform(axes.transData.transform([(place, level) for place in places]))[
        :, 0
    ]
    kept: list[tuple[float, float]] = []
    for place, fraction in zip(places, fractions, strict=True):
        if not kept or fraction - kept[-1][1] >= _APART:
            kept.append((place, fraction))
    axes.set_xticks([place for place, _ in kept], [_number(place) for place, _ in kept])
    axes.minorticks_off()


def _number(value: float) -> str:
    """Thousands apart by a space, no zeros that say nothing."""
    return f"{value:,.0f}".replace(",", " ") if value.is_integer() else f"{value:g}"
