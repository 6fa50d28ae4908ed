"""Figures: every cell is drawn where its numbers say, and nothing covers anything."""

import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from generated_cells import CELLS, write_all
from pp_jax import plots
from pp_jax.results import summary
from pp_jax.results.plots import style


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("cells"), seeds=(0, 1, 2))


@pytest.fixture(scope="module")
def figure(cells):
    return plots.tradeoff(cells)


def panels(figure):
    return [axes for part in figure.subfigs for axes in part.axes]


def drawn(figure):
    """Draw a figure, so that all has its place; the renderer that measures it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def named_lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_every_mean_over_seeds_is_drawn(cells, figure):
    for axes, measure, scale in zip(panels(figure), ("defender_accuracy", "l1"), (100, 1), strict=True):
        lines = named_lines(axes)
        for row in summary.rows(cells):
            drawn = lines["no defense" if row["undefended"] else row["curve"]].get_xydata()
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
    assert figure.subfigs[0].get_suptitle() == "mnist ← font_letters · lenet · 5 000 queries · seeds 0, 1, 2"
    assert "defender's test accuracy (%)" in left.get_xlabel()
    assert "L1" in right.get_xlabel()
    for axes in (left, right):
        assert "worst case over attackers (%)" in axes.get_ylabel()
        assert "ideal" in [text.get_text() for text in axes.texts]
        np.testing.assert_allclose(named_lines(axes)["chance"].get_xydata()[:, 1], 10)
    legend = {text.get_text() for text in figure.subfigs[0].legends[0].texts}
    assert legend == set(named_lines(left)) >= {"no defense", "MAD", "MAD-argmax", "top-1", "chance"}


def test_a_plain_attacker_who_gets_less_is_drawn_hollow_beside_the_worst_case(tmp_path):
    defense = {"name": "MAD", "epsilon": 0.5}
    for by, accuracy in (("plain", 0.4), ("partial Bayes", 0.9)):
        made = write_all(tmp_path, cells=[(defense, accuracy, 0.99, 0.5)], by=by)
    axes = panels(plots.tradeoff(made))[0]
    worst = named_lines(axes)["MAD"].get_ydata()[0]
    (plain,) = (line for line in axes.lines if line.get_label() == "_MAD, plain")
    assert worst > 88 > 42 > plain.get_ydata()[0]
    assert plain.get_fillstyle() == "none"
    assert "hollow: plain attacker" in named_lines(axes)


def test_curves_differ_in_colour_and_marker_and_line(figure):
    lines = [line for name, line in named_lines(panels(figure)[0]).items() if name not in ("no defense", "chance")]
    for looks in ([line.get_color() for line in lines], [line.get_marker() for line in lines]):
        assert len(set(looks)) == len(lines) == 7
    many = style.looks(f"curve {index}" for index in range(20))
    assert len({str(look) for look in many.values()}) == 20
    assert len({str(look["linestyle"]) for look in list(many.values())[:8]}) == 8


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
    figure = plots.tradeoff(write_all(tmp_path, cells=CELLS[5:], pool="notmnist"))
    assert len(figure.subfigs) == 2
    assert "notmnist" in figure.subfigs[1].get_suptitle()
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


SERIES = {
    "no defense": [(10_000, [92.0, 94.0]), (100, [11.0, 13.0]), (1000, [33.0, 34.0])],
    "MAD, ε = 0.99": [(100, [10.0, 12.0]), (1000, [20.0, 22.0]), (10_000, [43.0, 46.0])],
    "reverse sigmoid, β = 1, γ = 0.2": [(100, [12.0]), (1000, [18.0]), (10_000, [34.0])],
}
WORDS = {"x_label": "queries", "y_label": "thief's test accuracy (%)", "title": "mnist ← notmnist"}


@pytest.mark.parametrize("logx", [False, True])
def test_curves_run_through_the_means_with_the_range_as_whiskers(logx):
    (axes,) = plots.curves(SERIES, logx=logx, chance=10, **WORDS).axes
    lines = named_lines(axes)
    np.testing.assert_allclose(lines["no defense"].get_xydata(), [(100, 12), (1000, 33.5), (10_000, 93)])
    np.testing.assert_allclose(lines["chance"].get_xydata()[:, 1], 10)
    arms = [arm.tolist() for bars in axes.collections for arm in bars.get_segments()]
    assert [[1000, 33], [1000, 34]] in arms
    assert len(arms) == 6  # a single seed has no range
    assert axes.get_xscale() == ("log" if logx else "linear")


def test_curves_differ_in_every_look_and_are_named_below_the_panel():
    figure = plots.curves(SERIES, chance=10, **WORDS)
    renderer = drawn(figure)
    (axes,), (legend,) = figure.axes, figure.legends
    lines = [line for name, line in named_lines(axes).items() if name != "chance"]
    for look in ("get_color", "get_marker", "get_linestyle"):
        assert len({str(getattr(line, look)()) for line in lines}) == len(SERIES)
    assert [text.get_text() for text in legend.texts] == [*SERIES, "chance"]
    box = legend.get_window_extent(renderer)
    assert box.y1 <= axes.xaxis.label.get_window_extent(renderer).y0
    assert 0 <= box.x0 < box.x1 <= 1200
    assert (figure.get_suptitle(), axes.get_xlabel(), axes.get_ylabel()) == tuple(
        WORDS[name] for name in ("title", "x_label", "y_label")
    )
    assert figure.bbox.width == 1200


def test_a_legend_of_long_names_stays_inside_the_figure():
    names = [
        f"MAD, ε = 0.99, objective = inner, over all layers of a distilled surrogate, variant {i}" for i in range(6)
    ]
    figure = plots.curves({name: [(1, [i]), (2, [i + 1])] for i, name in enumerate(names)}, **WORDS)
    box = figure.legends[0].get_window_extent(drawn(figure))
    assert 0 <= box.x0 < box.x1 <= 1200


@pytest.mark.parametrize("logx", [False, True])
def test_ticks_of_curves_are_at_the_points_and_do_not_touch(logx):
    places = [100, 200, 250, 1000, 2500, 5000, 10_000, 10_500, 50_000]
    figure = plots.curves({"a": [(x, [1.0]) for x in places]}, logx=logx, **WORDS)
    renderer = drawn(figure)
    (axes,) = figure.axes
    assert {int(label.get_text().replace(" ", "")) for label in axes.get_xticklabels()} <= set(places)
    boxes = [label.get_window_extent(renderer) for label in axes.get_xticklabels()]
    assert len(boxes) >= 4
    assert all(one.x1 + 3 < other.x0 for one, other in itertools.pairwise(boxes))


PANELS = {"MAD, ε = 0.5": [1, 2, 1, 0], "MAD, ε = 0.99": [0, 0, 10, 30], "top-1": [0, 400, 0, 0]}
BINS = {"x_label": "degrees", "title": "mnist ← notmnist", "edges": [0, 45, 90, 135, 180]}


def means(figure):
    """The position of each panel's vertical line and its text."""
    return [(float(axes.lines[0].get_xdata()[0]), axes.texts[0].get_text()) for axes in figure.axes]


def test_histograms_show_shares_and_means_on_common_axes():
    figure = plots.histograms(PANELS, **BINS)
    assert [axes.get_title() for axes in figure.axes] == list(PANELS)
    for axes, counts in zip(figure.axes, PANELS.values(), strict=True):
        bars = axes.patches[0].get_data()
        np.testing.assert_allclose(bars.values, 100 * np.array(counts) / sum(counts))
        np.testing.assert_array_equal(bars.edges, BINS["edges"])
        assert axes.get_xlim() == (0, 180)
        assert axes.get_ylim() == figure.axes[0].get_ylim()
    assert means(figure) == [(67.5, "mean 67.5"), (146.25, "mean 146.2"), (67.5, "mean 67.5")]
    assert (figure.get_suptitle(), figure.get_supxlabel()) == (BINS["title"], "degrees")


def test_histograms_take_exact_means_where_they_are_given():
    exact = dict(zip(PANELS, (61.0, 150.04, 50.0), strict=True))
    found = means(plots.histograms(PANELS, means=exact, **BINS))
    assert found == [(61.0, "mean 61.0"), (150.04, "mean 150.0"), (50.0, "mean 50.0")]


@pytest.mark.parametrize("count", [1, 2, 4, 5, 12])
def test_texts_of_histograms_cover_nothing_and_every_column_has_numbers_below(count):
    panels = {f"reverse sigmoid, β = {i / 10:g}, γ = 0.2": np.eye(4, dtype=int)[i % 4] for i in range(count)}
    figure = plots.histograms(panels, **BINS)
    renderer = drawn(figure)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == count
    texts = [text for axes in shown for text in (axes.title, *axes.texts)]
    texts += [figure._supxlabel, figure._supylabel, figure._suptitle]
    texts += [label for axes in shown[-3:] for label in axes.get_xticklabels()]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(0 <= box.x0 < box.x1 <= 1200 and 0 <= box.y0 < box.y1 <= figure.bbox.height for box in boxes)
    for axes in shown:
        box, highest = axes.texts[0].get_window_extent(renderer), axes.transData.transform((0, 100))[1]
        assert axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1
        assert highest <= box.y0
    for axes in shown[-min(3, count) :]:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "45", "90", "135", "180"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.curves({}, **WORDS), "series is empty"),
        (lambda: plots.curves({"a": []}, **WORDS), r"series\['a'\] is empty"),
        (lambda: plots.curves({"a": [(1, [])]}, **WORDS), r"series\['a'\] has no value at x = 1"),
        (lambda: plots.curves({"a": [(1, [math.nan])]}, **WORDS), "must be finite"),
        (lambda: plots.curves({"a": [(0, [1])]}, logx=True, **WORDS), "x = 0: must be above 0 where logx is True"),
        (lambda: plots.histograms({}, **BINS), "panels is empty"),
        (lambda: plots.histograms({"a": [1, 2]}, **BINS), r"panels\['a'\] has 2 counts: must be 4, one a bin"),
        (lambda: plots.histograms({"a": [0, 0, 0, 0]}, **BINS), "not all 0"),
        (lambda: plots.histograms({"a": [1, -1, 0, 2]}, **BINS), "counts of at least 0"),
        (lambda: plots.histograms(PANELS, **{**BINS, "edges": [0, 1, 1, 2, 3]}), "at least two ascending numbers"),
        (lambda: plots.histograms(PANELS, means={"top-1": 2}, **BINS), r"means has no 'MAD, ε = 0.5'"),
    ],
)
def test_what_cannot_be_drawn_is_named(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_no_figure_touches_pyplot():
    for path in Path(plots.__file__).parent.glob("*.py"):
        assert "pyplot" not in path.read_text("utf-8")


def test_a_heatmap_shows_every_number_and_dashes_where_there_is_none():
    values = [[10.0, 96.04, 96.04], [55.5, None, 55.5]]
    figure = plots.heatmap(
        values,
        rows=["none", "MAD"],
        columns=["answers", "argmax", "worst"],
        title="t",
        unit="%",
        limits=(0, 100),
        apart=1,
    )
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["10.0", "96.0", "96.0", "55.5", "–", "55.5"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["answers", "argmax", "worst"]
    np.testing.assert_array_equal(np.isnan(axes.images[0].get_array().filled(np.nan)), [[0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0]], "values has 1 rows of \\[2\\] numbers: must be 2 rows of 2"),
        ([[1.0, 2.0], [1.0]], "values has 2 rows of \\[1, 2\\] numbers: must be 2 rows of 2"),
        ([[1.0, 2.0], [1.0, float("nan")]], "in row 'b': must be finite or None"),
    ],
)
def test_a_heatmap_refuses_what_it_cannot_draw(values, message):
    with pytest.raises(ValueError, match=message):
        plots.heatmap(values, rows=["a", "b"], columns=["x", "y"], title="t", unit="%", limits=(0, 1))
