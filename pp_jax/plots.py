"""Figures made from records alone."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pp_jax import _files, summary
from pp_jax.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Okabe and Ito's palette, which stays apart for every kind of colour vision; marker and line differ as well.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#666666")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1)), (0, (1, 3)))
_UNDEFENDED = {"marker": "*", "markersize": 17, "color": "black", "linestyle": "none"}
_INK = "#333333"
_SCALES = {"defender_accuracy": 100.0, "l1": 1.0}
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def tradeoff(records: Iterable[Record], *, columns: int = 2) -> Figure:
    """Draw what a defense saves (the thief's accuracy) against what it costs.

    One row of panels a setting: the thief's accuracy against the defender's accuracy, and against the mean L1 change of
    the answers. One curve a defense in the order of its strength; points are means over seeds, whiskers the range.

    Args:
      records: records of kind ``"tradeoff"``.
      columns: 2 for panels side by side (1200 pixels wide), 1 for one above the other (600 pixels, for a phone).

    Returns:
      A figure that belongs to no global state.

    Raises:
      ValueError: there are no such records, or ``columns`` is neither 1 nor 2.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if columns not in (1, 2):
        raise ValueError(f"columns is {columns}: must be 1 or 2")
    settings = summary.settings(summary.rows(records))
    if not settings:
        raise ValueError("records has no record of kind 'tradeoff': a plot needs at least one")
    styles = _styles(row for rows in settings.values() for row in rows)
    height = 5.6 if columns == 2 else 10.5
    figure = Figure(figsize=(6 * columns, height * len(settings)), dpi=100, facecolor="white", layout="constrained")
    renderer = FigureCanvasAgg(figure).get_renderer()
    panels = []
    parts = figure.subfigures(len(settings), 1, squeeze=False)[:, 0]
    for part, (setting, rows) in zip(parts, settings.items(), strict=True):
        part.suptitle(_title(setting, rows, width=6 * columns), fontsize=13, fontweight="bold", color=_INK)
        left, right = part.subplots(2 // columns, columns).ravel()
        _panel(left, rows, styles, "defender_accuracy")
        _panel(right, rows, styles, "l1")
        _finish_accuracy(left, rows)
        _finish_l1(right)
        lines = [line for line in left.lines if not line.get_label().startswith("_")]
        part.legend(handles=lines, loc="outside lower center", ncols=2 * columns, frameon=False, fontsize=10.5)
        panels += [(left, rows, "defender_accuracy"), (right, rows, "l1")]
    figure.draw_without_rendering()  # only now do the panels have their final place
    for axes, rows, measure in panels:
        _mark_strengths(axes, rows, styles, measure, renderer)
    return figure


def png(figure: Figure, *, dpi: int = 100) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, atomically (`OSError` naming the path where it cannot be)."""
    return _files.write_bytes(path, png(figure))


def _styles(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A colour, marker and line for every curve, the same in all panels."""
    curves = sorted({row["curve"] for row in rows if row["defense"] != "none"})
    count = len(_COLORS)
    return {
        curve: {
            "color": _COLORS[index % count],
            "marker": _MARKERS[index % count],
            "linestyle": _LINES[(index + index // count) % count],  # shifted, so that the ninth curve is no first again
        }
        for index, curve in enumerate(curves)
    }


def _title(setting: str, rows: Sequence[Mapping[str, Any]], *, width: int) -> str:
    """Victim ← pool, queries and seeds; on a narrow figure in more lines."""
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    text = f"{setting} · {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    return text if width > 6 else text.replace(" · ", "\n", 1)


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], styles: Mapping[str, Any], measure: str) -> None:
    """Curves with whiskers, the undefended point and the level of chance."""
    points = [row for row in rows if row[measure].mean == row[measure].mean]
    for row in points:
        if row["defense"] == "none":
            _curve(axes, [row], measure, label=row["label"], zorder=5, **_UNDEFENDED)
            axes.axhline(100 * row["attacker_accuracy"].mean, color="#888888", linewidth=0.8, linestyle=":", zorder=0)
    for curve, style in styles.items():
        if members := [row for row in points if row["curve"] == curve and row["defense"] != "none"]:
            _curve(axes, members, measure, label=curve, markersize=6.5, linewidth=1.8, **style)
    if (chance := rows[0]["chance"]) is not None:
        axes.axhline(100 * chance, color="#888888", linewidth=1.2, linestyle=(0, (4, 3)), label="chance", zorder=0)
    axes.set_ylim(0, 103)
    axes.set_ylabel("thief's test accuracy (%)  —  lower is better", color=_INK)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _curve(axes: Axes, rows: Sequence[Mapping[str, Any]], measure: str, **style: Any) -> None:
    """One line through the means, with the range over seeds as whiskers."""
    scale = _SCALES[measure]
    x, y = ([row[name] for row in rows] for name in (measure, "attacker_accuracy"))
    several = any(len(row["seeds"]) > 1 for row in rows)

    def arms(ranges: Sequence[summary.Range], factor: float) -> list[list[float]] | None:
        below, above = [r.mean - r.low for r in ranges], [r.high - r.mean for r in ranges]
        return [[factor * max(arm, 0.0) for arm in side] for side in (below, above)] if several else None

    centres = [scale * r.mean for r in x], [100 * r.mean for r in y]
    bars = axes.errorbar(*centres, xerr=arms(x, scale), yerr=arms(y, 100), elinewidth=1, capsize=2.5, **style)
    bars.lines[0].set_label(style["label"])  # the legend shows the line without its whiskers


def _finish_accuracy(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Axis and ideal corner of the panel over the defender's accuracy."""
    lows = [100 * row["defender_accuracy"].low for row in rows]
    low = min((value for value in lows if value == value), default=0.0)
    axes.set_xlim(left=max(0.0, min(low - 5, 90.0)), right=100.8)
    axes.set_xlabel("defender's test accuracy (%)  —  higher is better", color=_INK)
    axes.set_title("What it costs the honest user: accuracy", fontsize=12, color=_INK)
    _ideal(axes, right=True)


def _finish_l1(axes: Axes) -> None:
    """Axis and ideal corner of the panel over the change of the answers."""
    axes.set_xlim(left=-0.04)
    axes.set_xlim(right=max(1.0, axes.get_xlim()[1]))
    axes.set_xlabel("mean L1 change of the answers (0 to 2)  —  lower is better", color=_INK)
    axes.set_title("What it costs the honest user: changed posteriors", fontsize=12, color=_INK)
    _ideal(axes, right=False)


def _ideal(axes: Axes, *, right: bool) -> None:
    """Shade and name the corner where a perfect defense would be."""
    side = 1.0 if right else 0.0
    axes.annotate(
        "ideal",
        xy=(side + (-0.012 if right else 0.012), 0.012),
        xytext=(side + (-0.09 if right else 0.09), 0.055),
        xycoords="axes fraction",
        textcoords="axes fraction",
        ha="right" if right else "left",
        va="center",
        color="#2E7D32",
        fontsize=11,
        fontstyle="italic",
        arrowprops={"arrowstyle": "-|>", "color": "#2E7D32", "linewidth": 1.2},
    )


def _mark_strengths(
    axes: Axes, rows: Sequence[Mapping[str, Any]], styles: Mapping[str, Any], measure: str, renderer: Any
) -> None:
    """Write the strength beside the points, ends of curves first, wherever a label covers nothing."""
    from matplotlib.colors import to_rgb

    taken = [text.get_window_extent(renderer) for text in axes.texts]
    ink = _ink(axes)
    for row, style in _by_importance(rows, styles):
        if row[measure].mean != row[measure].mean:
            continue
        xy = (_SCALES[measure] * row[measure].mean, 100 * row["attacker_accuracy"].mean)
        ink_color = [0.75 * channel for channel in to_rgb(style["color"])]  # letters are thin: darker than the line
        text = axes.annotate(
            row["strength_text"], xy, xytext=(0, 0), textcoords="offset points", fontsize=9.5, color=ink_color
        )
        text.set_in_layout(False)
        if (box := _place(text, axes.bbox, ink, taken, renderer)) is None:
            text.remove()
        else:
            taken.append(box)


def _by_importance(rows: Sequence[Mapping[str, Any]], styles: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Rows that have a strength, with their styles: the strongest of each curve, then the weakest, then the rest."""
    ranked = []
    for curve, style in styles.items():
        members = [row for row in rows if row["curve"] == curve and row["strength_text"]]
        ranks = {len(members) - 1: 0, 0: 1}
        ranked += [(ranks.get(index, 2), row, style) for index, row in enumerate(members)]
    return [(row, style) for _, row, style in sorted(ranked, key=lambda item: item[0])]


def _ink(axes: Axes) -> np.ndarray:
    """Points in pixels, closely spaced, along everything drawn as a line."""
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    steps = np.linspace(0, 1, 60)[:, None]
    pieces = []
    for line in axes.lines:
        corners = line.get_transform().transform(np.asarray(line.get_xydata(), float))
        rim = 0.5 * line.get_markersize() * np.stack([np.cos(turns), np.sin(turns)], axis=-1)
        pieces += [corners, (corners[:, None, :] + rim).reshape(-1, 2)]
        pieces += [a + steps * (b - a) for a, b in itertools.pairwise(corners)]
    return np.concatenate(pieces)


def _place(text: Annotation, frame: Bbox, ink: np.ndarray, taken: Sequence[Bbox], renderer: Any) -> Bbox | None:
    """Move a label to the nearest free place around its point; None where there is none."""
    for distance, (dx, dy) in itertools.product((8, 12), _DIRECTIONS):
        text.set_position((distance * dx, distance * dy))
        text.set_horizontalalignment("left" if dx > 0 else "right" if dx < 0 else "center")
        text.set_verticalalignment("bottom" if dy > 0 else "top" if dy < 0 else "center")
        box = text.get_window_extent(renderer)
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        around = box.padded(3)
        covers_ink = np.any(np.all((ink > around.min) & (ink < around.max), axis=1))
        if inside and not covers_ink and not any(box.padded(2).overlaps(other) for other in taken):
            return box
    return None
