"""Figures: every cell is drawn where its numbers say, and nothing covers anything."""

import io
import itertools
import math

import numpy as np
import pytest
from generated_cells import CELLS, write_all
from PIL import Image

from pp_jax import plots, summary


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("cells"), seeds=(0, 1, 2))


@pytest.fixture(scope="module")
def figure(cells):
    return plots.tradeoff(cells)


def panels(figure):
    return [axes for part in figure.subfigs for axes in part.axes]


def named_lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_every_mean_over_seeds_is_drawn(cells, figure):
    for axes, measure, scale in zip(panels(figure), ("defender_accuracy", "l1"), (100, 1), strict=True):
        lines = named_lines(axes)
        for row in summary.rows(cells):
            drawn = lines["no defense" if row["defense"] == "none" else row["curve"]].get_xydata()
            expected = (scale * row[measure].mean, 100 * row["attacker_accuracy"].mean)
            assert np.isclose(drawn, expected).all(axis=1).any(), row["label"]


def test_curves_run_in_the_order_of_their_strength(cells, figure):
    rows = [row for row in summary.rows(cells) if row["curve"] == "MAD"]
    assert [row["strength"] for row in rows] == [0.1, 0.5, 0.99, 1.0, 1.5]
    drawn = named_lines(panels(figure)[1])["MAD"].get_xydata()[:, 0]
    np.testing.assert_allclose(drawn, [row["l1"].mean for row in rows])


def test_whiskers_span_the_range_over_seeds_and_are_absent_for_one_seed(cells, figure, tmp_path):
    row = next(row for row in summary.rows(cells) if row["label"] == "MAD, ε = 0.5")
    arms = [arm for bars in panels(figure)[1].collections for arm in bars.get_segments()]
    expected = [
        [row["l1"].mean, 100 * row["attacker_accuracy"].low],
        [row["l1"].mean, 100 * row["attacker_accuracy"].high],
    ]
    assert row["attacker_accuracy"].high > row["attacker_accuracy"].low
    assert any(np.allclose(arm, expected) for arm in arms)
    single = plots.tradeoff(write_all(tmp_path, cells=CELLS[:4]))
    assert not panels(single)[0].collections


def test_the_figure_explains_itself(figure):
    left, right = panels(figure)
    assert figure.subfigs[0].get_suptitle() == "mnist ← font_letters · lenet · knockoff, 5 000 queries · seeds 0, 1, 2"
    assert "defender's test accuracy (%)" in left.get_xlabel()
    assert "L1" in right.get_xlabel()
    for axes in (left, right):
        assert "thief's test accuracy (%)" in axes.get_ylabel()
        assert "ideal" in [text.get_text() for text in axes.texts]
        np.testing.assert_allclose(named_lines(axes)["chance"].get_xydata()[:, 1], 10)
    legend = {text.get_text() for text in figure.subfigs[0].legends[0].texts}
    assert legend == set(named_lines(left)) >= {"no defense", "MAD", "MAD-argmax", "top-1", "chance"}


def test_curves_differ_in_colour_and_marker_and_line(figure):
    lines = [line for name, line in named_lines(panels(figure)[0]).items() if name not in ("no defense", "chance")]
    for looks in ([line.get_color() for line in lines], [line.get_marker() for line in lines]):
        assert len(set(looks)) == len(lines) == 7
    many = plots._styles({"curve": f"curve {index}", "defense": "x"} for index in range(20))
    assert len({str(style) for style in many.values()}) == 20
    assert len({str(style["linestyle"]) for style in list(many.values())[:8]}) == 8


@pytest.mark.parametrize("columns", [1, 2])
def test_no_label_covers_another_or_leaves_its_panel(cells, columns):
    figure = plots.tradeoff(cells, columns=columns)
    renderer = figure.canvas.get_renderer()
    for axes in panels(figure):
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert len(boxes) > 5
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        for box in boxes:
            assert axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1
            assert axes.bbox.y0 <= box.y0 < box.y1 <= axes.bbox.y1


def test_settings_get_a_row_of_panels_each_and_one_style_a_curve(tmp_path):
    write_all(tmp_path, cells=CELLS[:10])
    figure = plots.tradeoff(write_all(tmp_path, cells=CELLS[5:], labels="top1"))
    assert len(figure.subfigs) == 2
    assert "top1" in figure.subfigs[1].get_suptitle()
    first, second = (named_lines(part.axes[0])["MAD-argmax"] for part in figure.subfigs)
    assert first.get_color() == second.get_color()


@pytest.mark.parametrize("defenses", [CELLS[:1], CELLS[1:2], CELLS[-1:]], ids=["undefended", "one cell", "no strength"])
def test_one_cell_is_enough(tmp_path, defenses):
    assert plots.png(plots.tradeoff(write_all(tmp_path, cells=defenses)))


def test_missing_measures_leave_the_point_out(tmp_path):
    cells = write_all(tmp_path, cells=CELLS[:3], query_l1={"mean": None}, defender_accuracy=None)
    assert all(math.isnan(row["l1"].mean) for row in summary.rows(cells))
    assert all(set(named_lines(axes)) == {"chance"} for axes in panels(plots.tradeoff(cells)))


def test_saved_picture_is_1200_pixels_wide(figure, tmp_path):
    path = plots.save(figure, tmp_path / "new" / "tradeoff.png")
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        assert image.width == 1200
        assert 500 <= image.height <= 700
    assert list(path.parent.iterdir()) == [path]


def test_bad_arguments_are_named(cells):
    with pytest.raises(ValueError, match="records has no record of kind 'tradeoff'"):
        plots.tradeoff([])
    with pytest.raises(ValueError, match="columns is 3: must be 1 or 2"):
        plots.tradeoff(cells, columns=3)
