"""What all figures share: colours, markers, ink, whiskers, and the way to a file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pp_jax import _files, _matplotlib
from pp_jax.results.summary import Range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays apart for every kind of colour vision; marker and line differ as well.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#666666")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1)), (0, (1, 3)))
INK = "#333333"
CHANCE: dict[str, Any] = {
    "color": "#888888",
    "linewidth": 1.2,
    "linestyle": (0, (4, 3)),
    "label": "chance",
    "zorder": 0,
}
_LEGEND_SIZE = 10.5  # points


@_matplotlib.defaults()
def png(figure: Figure, *, dpi: int = 100) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata=_files.PNG)
    return buffer.getvalue()


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, atomically (`OSError` naming the path where it cannot be; `ValueError` where another
    program's file is)."""
    return _files.write_bytes(path, png(figure), mark=_files.MARKS[".png"])


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A colour, marker and line for every name, in the order given."""
    count = len(COLORS)
    return {
        name: {
            "color": COLORS[index % count],
            "marker": MARKERS[index % count],
            "linestyle": LINES[(index + index // count) % count],  # shifted, so that the ninth curve is no first again
        }
        for index, name in enumerate(names)
    }


def blank(width: float, height: float) -> Figure:
    """An empty white figure, in inches of 100 pixels, that belongs to no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, facecolor="white", layout="constrained")


def tidy(axes: Axes) -> None:
    """Grid behind the data, no frame above and to the right."""
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def line(
    axes: Axes, x: Sequence[Range], y: Sequence[Range], *, scales: tuple[float, float] = (1, 1), **look: Any
) -> None:
    """One line through the means, with the ranges over seeds as whiskers where there is a range."""

    def arms(ranges: Sequence[Range], scale: float) -> list[list[float]] | None:
        if not any(r.low < r.high for r in ranges):
            return None
        below, above = [r.mean - r.low for r in ranges], [r.high - r.mean for r in ranges]
        return [[scale * max(arm, 0.0) for arm in side] for side in (below, above)]

    centres = [[scale * r.mean for r in ranges] for ranges, scale in zip((x, y), scales, strict=True)]
    xerr, yerr = map(arms, (x, y), scales)
    bars = axes.errorbar(centres[0], centres[1], xerr=xerr, yerr=yerr, elinewidth=1, capsize=2.5, **look)
    bars.lines[0].set_label(look["label"])  # the legend shows the line without its whiskers


def legend_below(figure: Any, axes: Axes, *, width: float) -> None:
    """Name the lines of a panel below a figure (or part of one), in as many columns as its width in inches holds."""
    lines = [drawn for drawn in axes.lines if not str(drawn.get_label()).startswith("_")]
    longest = max(len(str(drawn.get_label())) for drawn in lines)
    entry = 0.85 + longest * 0.6 * _LEGEND_SIZE / 72  # handle and gap, then letters of .6 em
    columns = max(1, min(len(lines), int(width / entry), round(width / 3)))
    figure.legend(
        handles=lines, loc="outside lower center", ncols=columns, frameon=False, fontsize=_LEGEND_SIZE, handlelength=3.2
    )
