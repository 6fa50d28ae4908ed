"""Reports: the same rows in terminal and page, in words a newcomer reads, with nothing loaded or left unescaped."""

import dataclasses
import html.parser
import re
import subprocess
import sys
from pathlib import Path

import pytest
import rich.console

from generated_cells import CELLS, cell, write_all
from pp_jax import plots, records, report
from pp_jax.results import summary

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("cells"), seeds=(0, 1, 2))


@pytest.fixture(scope="module")
def page(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    assert report.write(path, cells, title="Stealing <mnist> & friends") == path
    assert list(path.parent.iterdir()) == [path]
    return path.read_text("utf-8")


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and text; checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "source", "rect", "line", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def rows_of(defenses, **changes):
    """Summary rows without a detour over the disk."""
    cells = [cell(*numbers, attacker_accuracy=numbers[1], **changes) for numbers in defenses]
    return report.summary_rows(records.Record(**numbers, environment={}, path=Path("x")) for numbers in cells)


def test_rows_are_means_and_ranges_over_seeds_undefended_first(cells):
    rows = report.summary_rows(cells)
    assert len(rows) == len(CELLS)
    assert rows[0]["undefended"]
    assert {tuple(row["seeds"]) for row in rows} == {(0, 1, 2)}
    row = next(row for row in rows if row["label"] == "MAD, ε = 0.5")
    values = [
        r.result["attacker_accuracy"] for r in cells if summary.describe_defense(r.config["defense"]) == "MAD, ε = 0.5"
    ]
    assert row["attacker_accuracy"] == pytest.approx((sum(values) / 3, min(values), max(values)))
    assert row["attacker_accuracy"].half == pytest.approx((max(values) - min(values)) / 2)


def test_rows_do_not_depend_on_the_order_of_records(cells):
    def texts(rows):
        return [(row["setting"], row["label"], row["attacker_accuracy"].low) for row in rows]

    assert texts(report.summary_rows(cells[::-1])) == texts(report.summary_rows(cells))


def made_of(*cells):
    """Records without a detour over the disk."""
    return [records.Record(**numbers, environment={}, path=Path("x")) for numbers in cells]


def test_a_row_has_the_worst_case_beside_the_plain_attacker_and_leaves_yardsticks_out():
    told = [
        cell(*GOOD),
        cell({**GOOD[0]}, 0.9, *GOOD[2:], by="partial Bayes"),
        cell(*GOOD[:1], 0.99, 0.99, 0.9, by="x"),
    ]
    told[2]["config"]["attack"]["privileged"] = True
    (row,) = report.summary_rows(made_of(*told))
    assert row["by"] == "partial Bayes"
    assert list(row["attacks"]) == ["plain", "partial Bayes", "x"]
    assert row["plain"] == row["attacks"]["plain"]
    assert row["attacker_accuracy"] == row["attacks"]["partial Bayes"]
    text = report.markdown(made_of(*told))
    assert "| every attacker, % | plain | partial Bayes | x |" in text


def test_attackers_defenses_and_settings_of_one_name_are_told_apart():
    first, other = cell(*GOOD), cell(*GOOD)
    other["config"]["attack"]["recovery"] = {"rate": 2}
    (row,) = report.summary_rows(made_of(first, other))
    assert list(row["attacks"]) == ["plain", "plain, recovery.rate = 2"]
    other = cell(*GOOD)
    first["config"]["defense"]["content"], other["config"]["defense"]["content"] = "0123456789", "abcdef0123"
    labels = [row["label"] for row in report.summary_rows(made_of(first, other))]
    assert labels == ["MAD-argmax, ε = 0.99, 012345", "MAD-argmax, ε = 0.99, abcdef"]
    assert [row["label"] for row in report.summary_rows(made_of(first))] == ["MAD-argmax, ε = 0.99"]
    other = cell(*GOOD)
    other["config"]["setting"] = "0" * 16
    assert len({row["setting"] for row in report.summary_rows(made_of(first, other))}) == 2


def test_records_without_a_named_attacker_are_refused():
    old = cell(*GOOD)
    del old["config"]["attack"]["recovery"]
    with pytest.raises(ValueError, match="record x was written by an older version"):
        report.summary_rows(made_of(old))


def test_settings_that_differ_in_a_detail_are_kept_apart_and_say_so():
    one, other = cell(*CELLS[0]), cell(*CELLS[0])
    other["config"]["attack"]["epochs"] = 99
    made = [records.Record(**numbers, environment={}, path=Path("x")) for numbers in (one, other)]
    first, second = (row["setting"] for row in report.summary_rows(made))
    assert first.endswith("attack.epochs = 10")
    assert second.endswith("attack.epochs = 99")


def test_other_kinds_are_left_out(cells):
    other = dataclasses.replace(cells[0], kind="speed")
    assert report.summary_rows([other]) == []
    with pytest.raises(ValueError, match="records has no record of kind 'tradeoff'"):
        report.write("unused.html", [other], title="x")


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        ({"name": "reverse sigmoid", "gamma": 0.2, "beta": 1.0, "content": "x"}, "reverse sigmoid, β = 1, γ = 0.2"),
        ({"name": "MAD-argmax", "epsilon": 0.99, "keep_argmax": True}, "MAD-argmax, ε = 0.99"),
        ({"name": "no defense"}, "no defense"),
        ({"name": "a_new_one", "weird": "x"}, "a_new_one, weird = x"),
    ],
)
def test_defenses_in_words(defense, words):
    assert summary.describe_defense(defense) == words


UNTRIED = " No informed attacker was tried: this says little of the defense."
NONE = ({"name": "no defense"}, 0.95, 0.99, 0.0)
GOOD = ({"name": "MAD-argmax", "epsilon": 0.99}, 0.70, 0.99, 0.97)
DEAR = ({"name": "MAD", "epsilon": 1.5}, 0.12, 0.05, 1.47)
SLIGHT = ({"name": "MAD", "epsilon": 0.9}, 0.60, 0.985, 0.89)


@pytest.mark.parametrize(
    ("defenses", "sentence"),
    [
        (
            [NONE, GOOD, DEAR],
            "MAD-argmax at ε = 0.99 lowers the worst case over attackers from 95.0 % to 70.0 % (plain attacker) at no "
            "loss of the defender's accuracy, changing the responses by 0.97 in mean L1 (of at most 2)." + UNTRIED,
        ),
        (
            [NONE, GOOD, SLIGHT],
            "MAD at ε = 0.9 lowers the worst case over attackers from 95.0 % to 60.0 % (plain attacker) at a loss of "
            "0.5 points of the defender's accuracy, changing the responses by 0.89 in mean L1 (of at most 2)."
            + UNTRIED,
        ),
        (
            [NONE, DEAR],
            "No defense lowers the worst case over attackers at a cost of one point or less; undefended it is 95.0 %.",
        ),
        ([NONE], "No defense was measured; the worst case: undefended it is 95.0 %."),
        (
            [DEAR],
            "No defense lowers the worst case over attackers at a cost of one point or less; "
            "no undefended victim was measured.",
        ),
    ],
)
def test_headline_says_what_it_cost_and_what_it_saved(defenses, sentence):
    assert report.headline(rows_of(defenses, victim_accuracy=0.99)) == sentence


def test_terminal_table_has_a_line_a_row_and_fits_80_characters(cells):
    table = report.table(cells)
    assert table.row_count == len(CELLS)
    console = rich.console.Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table)
    text = console.export_text()
    assert "…" not in text
    assert re.search(r"MAD-argmax +ε = 0.5 +81.8 ± 0.4 +plain +81.8 +99.2 +0.50", text)


def test_page_is_well_formed_and_loads_nothing(page):
    reader = Reader(page)
    assert "script" not in reader.tags
    assert "link" not in reader.tags
    for name, value in reader.attributes:
        if name in ("src", "srcset", "href"):
            assert value.startswith("data:image/png;base64,")
        assert not name.startswith("on")
    assert "url(" not in page
    assert "@import" not in page


def test_page_holds_every_cell_the_curves_examples_ties_and_provenance(page, cells):
    words = " ".join(Reader(page).words).replace("\N{NO-BREAK SPACE}", " ")
    for row in report.summary_rows(cells):
        assert row["label"] in words
    assert page.count("<tbody>") == 1
    assert page.count("<tr class") == len(CELLS)
    assert page.count('class="example"') == 3 * 7
    assert page.count("<svg") == 2 * page.count('class="example"')
    for text in (
        "Victim",
        "Attacker",
        "Defense",
        "posterior",
        "tie at one half",
        "lowest class index",
        "0, 1, 2",
        "jaxlib",
    ):
        assert text in re.sub(r"\s+", " ", words)
    assert report.headline(report.summary_rows(cells)) in words
    assert cells[0].environment["platform"] in words


def test_every_text_is_escaped(tmp_path, page):
    assert "<title>Stealing &lt;mnist&gt; &amp; friends</title>" in page
    nasty = "<script>alert('x')</script>\"&"
    made = []
    for seed, name in enumerate(("no defense", nasty)):
        numbers = cell({"name": name, nasty: nasty}, 0.5, 0.9, 0.5, seed=seed, pool=nasty, by=nasty)
        numbers["config"]["victim"] |= {"dataset": nasty, "model": nasty}
        for shown in numbers["result"]["examples"]:
            shown |= {"class_names": [nasty] * 10, "image_png": nasty}
        environment = {"command": nasty, "platform": nasty, "versions": {nasty: nasty}, "git_revision": nasty}
        made.append(
            records.Record(**numbers, environment=environment | {"time": nasty, "device": nasty}, path=Path("x"))
        )
    text = report.write(tmp_path / "r.html", made, title=nasty).read_text("utf-8")
    assert "<script" not in text
    reader = Reader(text)
    assert "script" not in reader.tags
    assert not any(name.startswith("on") for name, _ in reader.attributes)


def test_many_classes_show_the_telling_ones(tmp_path):
    numbers = cell({"name": "MAD", "epsilon": 0.5}, 0.5, 0.9, 0.5)
    clean = [0.005] * 100
    clean[42] = 0.505
    shown = numbers["result"]["examples"][0] | {
        "clean": clean,
        "answer": clean,
        "class_names": [f"c{i}" for i in range(100)],
    }
    numbers["result"]["examples"] = [shown]
    made = records.Record(**numbers, environment={}, path=Path("x"))
    text = report.write(tmp_path / "r.html", [made], title="x").read_text("utf-8")
    assert "10 of 100 classes" in text
    assert "c42 50 %" in text or "c42 51 %" in text


def test_figures_do_not_touch_pyplot():
    imported = "import sys, pp_jax.results.plots, pp_jax.results.report"
    code = f"{imported}\nassert not {{'matplotlib', 'rich'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert "pyplot" not in Path(plots.__file__).read_text("utf-8")
