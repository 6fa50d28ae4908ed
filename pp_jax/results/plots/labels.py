"""Labels beside points, where they cover nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def place(axes: Axes, labels: Iterable[tuple[str, tuple[float, float], str]], renderer: Any) -> None:
    """Write texts beside their points, the first ones first, and leave out those that find no free place.

    Args:
      axes: a panel in its final place, with everything else drawn.
      labels: text, point in data coordinates, and the colour of its curve.
      renderer: measures texts.
    """
    from matplotlib.colors import to_rgb

    taken = [text.get_window_extent(renderer) for text in axes.texts]
    ink = _ink(axes)
    for words, xy, color in labels:
        darker = tuple(0.75 * channel for channel in to_rgb(color))  # letters are thin
        text = axes.annotate(words, xy, xytext=(0, 0), textcoords="offset points", fontsize=9.5, color=darker)
        text.set_in_layout(False)
        if (box := _free(text, axes.bbox, ink, taken, renderer)) is None:
            text.remove()
        else:
            taken.append(box)


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


def _free(text: Annotation, frame: Bbox, ink: np.ndarray, taken: Sequence[Bbox], renderer: Any) -> Bbox | None:
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
