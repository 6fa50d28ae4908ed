"""What a defense saves against what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pp_jax import _matplotlib
from pp_jax.results import summary
from pp_jax.results.plots import labels, style
from pp_jax.results.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNDEFENDED: dict[str, Any] = {"marker": "*", "markersize": 17, "color": "black", "linestyle": "none"}
_PLAIN: dict[str, Any] = {"markersize": 5, "linewidth": 0.8, "alpha": 0.55, "fillstyle": "none"}
_SCALES = {"defender_accuracy": 100.0, "l1": 1.0}


@_matplotlib.defaults()
def tradeoff(records: Iterable[Record], *, columns: int = 2) -> Figure:
    """Draw what a defense saves (the attackers' accuracy) against what it costs.

    One row of panels a setting: the worst case over attackers against the defender's accuracy, and against the mean L1
    change of the responses; where it differs, the plain attacker is drawn beside it, thin and hollow. One curve a
    defense in the order of its strength; points are means over seeds, whiskers the range.

    Args:
      records: records of kind ``"tradeoff"``.
      columns: 2 for panels side by side (1200 pixels wide), 1 for one above the other (600 pixels, for a phone).

    Returns:
      A figure that belongs to no global state.

    Raises:
      ValueError: there are no such records, or ``columns`` is neither 1 nor 2.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if columns not in (1, 2):
        raise ValueError(f"columns is {columns}: must be 1 or 2")
    settings = summary.settings(summary.rows(records))
    if not settings:
        raise ValueError("records has no record of kind 'tradeoff': a plot needs at least one")
    looks = _looks(row for rows in settings.values() for row in rows)
    width, height = 6 * columns, 5.6 if columns == 2 else 10.5
    figure = style.blank(width, height * len(settings))
    renderer = FigureCanvasAgg(figure).get_renderer()
    panels = []
    parts = figure.subfigures(len(settings), 1, squeeze=False)[:, 0]
    for part, (setting, rows) in zip(parts, settings.items(), strict=True):
        part.suptitle(_title(setting, rows, width=width), fontsize=13, fontweight="bold", color=style.INK)
        left, right = part.subplots(2 // columns, columns).ravel()
        _panel(left, rows, looks, "defender_accuracy")
        _panel(right, rows, looks, "l1")
        _finish_accuracy(left, rows)
        _finish_l1(right)
        style.legend_below(part, left, width=width)
        panels += [(left, rows, "defender_accuracy"), (right, rows, "l1")]
    figure.draw_without_rendering()  # only now do the panels have their final place
    for axes, rows, measure in panels:
        labels.place(axes, _strengths(rows, looks, measure), renderer)
    return figure


def _looks(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A colour, marker and line for every curve, the same in all panels."""
    return style.looks(sorted({row["curve"] for row in rows if not row["undefended"]}))


def _title(setting: str, rows: Sequence[Mapping[str, Any]], *, width: int) -> str:
    """Victim ← pool, queries and seeds; on a narrow figure in more lines."""
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    text = f"{setting} · {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    return text if width > 6 else text.replace(" · ", "\n", 1)


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], looks: Mapping[str, Any], measure: str) -> None:
    """Curves with whiskers, the undefended point and the level of chance."""
    points = [row for row in rows if row[measure].mean == row[measure].mean]
    for row in points:
        if row["undefended"]:
            _curve(axes, [row], measure, label=row["label"], zorder=5, **_UNDEFENDED)
            axes.axhline(100 * row["attacker_accuracy"].mean, color="#888888", linewidth=0.8, linestyle=":", zorder=0)
    for curve, look in looks.items():
        if members := [row for row in points if row["curve"] == curve and not row["undefended"]]:
            _curve(axes, members, measure, label=curve, markersize=6.5, linewidth=1.8, **look)
            informed = [row for row in members if row["by"] != summary.PLAIN and row["plain"].mean == row["plain"].mean]
            if informed:
                _curve(axes, members, measure, "plain", label=f"_{curve}, plain", **look, **_PLAIN)
    if any(str(line.get_label()).endswith(", plain") for line in axes.lines):
        axes.plot([], [], color=style.INK, marker="o", label="hollow: plain attacker", **_PLAIN)
    if (chance := rows[0]["chance"]) is not None:
        axes.axhline(100 * chance, **style.CHANCE)
    axes.set_ylim(0, 103)
    axes.set_ylabel("worst case over attackers (%)  —  lower is better", color=style.INK)
    style.tidy(axes)


def _curve(
    axes: Axes, rows: Sequence[Mapping[str, Any]], measure: str, accuracy: str = "attacker_accuracy", **look: Any
) -> None:
    """An accuracy of attackers against one measure."""
    x, y = ([row[name] for row in rows] for name in (measure, accuracy))
    style.line(axes, x, y, scales=(_SCALES[measure], 100), **look)


def _finish_accuracy(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Axis and ideal corner of the panel over the defender's accuracy."""
    lows = [100 * row["defender_accuracy"].low for row in rows]
    low = min((value for value in lows if value == value), default=0.0)
    axes.set_xlim(left=max(0.0, min(low - 5, 90.0)), right=100.8)
    axes.set_xlabel("defender's test accuracy (%)  —  higher is better", color=style.INK)
    axes.set_title("What it costs the honest user: accuracy", fontsize=12, color=style.INK)
    _ideal(axes, right=True)


def _finish_l1(axes: Axes) -> None:
    """Axis and ideal corner of the panel over the change of the responses."""
    axes.set_xlim(left=-0.04)
    axes.set_xlim(right=max(1.0, axes.get_xlim()[1]))
    axes.set_xlabel("mean L1 change of the responses (0 to 2)  —  lower is better", color=style.INK)
    axes.set_title("What it costs the honest user: changed posteriors", fontsize=12, color=style.INK)
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


def _strengths(
    rows: Sequence[Mapping[str, Any]], looks: Mapping[str, Any], measure: str
) -> Iterator[tuple[str, tuple[float, float], str]]:
    """The strength of every point as its label: the ends of curves first."""
    for row, look in _by_importance(rows, looks):
        if row[measure].mean == row[measure].mean:
            point = (_SCALES[measure] * row[measure].mean, 100 * row["attacker_accuracy"].mean)
            yield row["strength_text"], point, look["color"]


def _by_importance(rows: Sequence[Mapping[str, Any]], looks: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Rows that have a strength, with their looks: the strongest of each curve, then the weakest, then the rest."""
    ranked = []
    for curve, look in looks.items():
        members = [row for row in rows if row["curve"] == curve and row["strength_text"]]
        ranks = {len(members) - 1: 0, 0: 1}
        ranked += [(ranks.get(index, 2), row, look) for index, row in enumerate(members)]
    return [(row, look) for _, row, look in sorted(ranked, key=lambda item: item[0])]
