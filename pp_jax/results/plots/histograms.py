"""Distributions beside one another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pp_jax import _matplotlib
from pp_jax.results.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_HEADROOM = 1.22  # of the highest bar: where the mean is written


@_matplotlib.defaults()
def histograms(
    panels: Mapping[str, Sequence[int]],
    *,
    x_label: str,
    title: str,
    edges: Sequence[float],
    means: Mapping[str, float] | None = None,
) -> Figure:
    """Draw a small histogram a case, all with the same axes, the mean marked by a line and printed.

    Args:
      panels: label of a panel to its counts per bin; a bar is a share of the panel's sum.
      x_label: what was counted, with its unit.
      title: of the figure.
      edges: of the bins, ascending, one more than there are counts.
      means: exact means by label; by default those of the counts, every value taken to lie in the middle of its bin.

    Returns:
      A figure, 1200 pixels wide, three panels a row, that belongs to no global state.

    Raises:
      ValueError: there is no panel, edges do not ascend, or counts are too many, too few, negative or all zero,
        or a panel has no mean among the ``means`` given.
    """
    bins = np.asarray(edges, float)
    shares = {label: 100 * counts / counts.sum() for label, counts in _checked(panels, bins).items()}
    middles = (bins[:-1] + bins[1:]) / 2
    if means is None:
        means = {label: float(share @ middles) / 100 for label, share in shares.items()}
    if lacking := [label for label in shares if label not in means]:
        raise ValueError(f"means has no {lacking[0]!r}: must have a mean for every panel")
    columns = min(_COLUMNS, len(shares))
    rows = -(-len(shares) // columns)
    figure = style.blank(12, 1.0 + (1.75 if rows > 1 else 3.0) * rows)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=style.INK)
    figure.supxlabel(x_label, fontsize=11.5, color=style.INK)
    figure.supylabel("share (%)", fontsize=11.5, color=style.INK)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (label, share) in zip(grid.flat, shares.items(), strict=False):
        _panel(axes, share, bins, label=label, mean=means[label])
    for axes in grid.flat[len(shares) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(shares) - columns) : len(shares)]:
        axes.tick_params(labelbottom=True)  # also those above an empty place
    grid[0, 0].set_xlim(bins[0], bins[-1])
    grid[0, 0].set_ylim(0, _HEADROOM * max(share.max() for share in shares.values()))
    return figure


def _checked(panels: Mapping[str, Sequence[int]], edges: np.ndarray) -> dict[str, np.ndarray]:
    """The counts as arrays, or an error that says what is wrong."""
    if not panels:
        raise ValueError("panels is empty: a plot needs at least one histogram")
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"edges are {edges.tolist()}: must be at least two ascending numbers")
    counts = {label: np.asarray(values, float) for label, values in panels.items()}
    for label, values in counts.items():
        if values.shape != (len(edges) - 1,):
            raise ValueError(f"panels[{label!r}] has {len(panels[label])} counts: must be {len(edges) - 1}, one a bin")
        if np.any(values < 0) or not values.sum() > 0:
            raise ValueError(f"panels[{label!r}] must have counts of at least 0 that are not all 0")
    return counts


def _panel(axes: Axes, share: np.ndarray, edges: np.ndarray, *, label: str, mean: float) -> None:
    """Bars, mean and its number, in the half where there is more room."""
    from matplotlib.ticker import MaxNLocator

    axes.stairs(share, edges, fill=True, color=style.COLORS[5], zorder=2)
    axes.stairs(share, edges, color=style.COLORS[0], linewidth=1, zorder=2.1)
    axes.axvline(mean, color=style.COLORS[1], linewidth=1.6, zorder=3)
    left = mean > (edges[0] + edges[-1]) / 2
    axes.annotate(
        f"mean {mean:.{_digits(edges)}f}",
        (mean, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-5 if left else 5, -3),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        fontsize=10,
        color="#A34700",
    )
    axes.set_title(label, fontsize=11, color=style.INK, pad=4)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 3, 4.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    style.tidy(axes)


def _digits(edges: np.ndarray) -> int:
    """Decimals that say more than the bin a mean is in: 1 for bins of 5, 2 for bins of .05."""
    return max(1, -math.floor(math.log10(float(np.diff(edges).min()))))
