"""Tables and a self-contained HTML report, made from records alone."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from pp_jax import _files
from pp_jax.results import plots, summary
from pp_jax.results import report_parts as _report_parts
from pp_jax.results.records import Record

if TYPE_CHECKING:
    from rich.table import Table

_SPREAD_NOTE = "Mean ± half the range over seeds, where there are several and the range shows in the digits given."
_UNTRIED = " No informed attacker was tried: this says little of the defense."
_FREE = 0.01  # the paper's bound for "no real cost": one point of the defender's accuracy


def summary_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The rows behind the terminal's table and the report's: see `pp_jax.results.summary.rows`."""
    return summary.rows(records)


def table(records: Iterable[Record]) -> Table:
    """The rows as a table for the terminal, mean ± half the range over seeds.

    Args:
      records: records of kind ``"tradeoff"``.

    Returns:
      A table for ``rich.print``.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    settings = summary.settings(summary.rows(records))
    several = len(settings) > 1
    titles = [f"({number}) {setting}" if several else setting for number, setting in enumerate(settings, 1)]
    columns = [_SHORT.get(column[0], column) for column in _COLUMNS[1:] if column[0] in _IN_A_TERMINAL]
    lines = Table(box=box.SIMPLE_HEAD, title=Text("\n".join(titles)), caption=_SPREAD_NOTE, caption_justify="left")
    lines.pad_edge, lines.padding = False, (0, 1, 0, 0)
    for heading in [*([""] if several else []), "defense", "parameters"]:
        lines.add_column(heading, no_wrap=True)
    for heading, _ in columns:
        lines.add_column(heading.replace(" ", "\n", 1), justify="right", no_wrap=heading != "by", overflow="fold")
    for number, rows in enumerate(settings.values(), 1):
        for row in rows:
            start = [f"({number})"] if several else []
            texts = [*start, row["name"], row["parameters"], *(cell(row) for _, cell in columns)]
            lines.add_row(*map(Text, texts))
        lines.add_section()
    return lines


def markdown(records: Iterable[Record]) -> str:
    """The rows as Markdown, one table a setting: the rows and columns of the report.

    Args:
      records: records of kind ``"tradeoff"``.

    Returns:
      Text that ends with a line break.
    """
    lines = []
    for setting, rows in summary.settings(summary.rows(records)).items():
        lines += [f"**{setting}**", "", f"| {' | '.join(heading for heading, _ in _COLUMNS)} |"]
        lines.append("|---" + "|---:" * (len(_COLUMNS) - 1) + "|")
        lines += [f"| {' | '.join(cell(row) for _, cell in _COLUMNS)} |" for row in rows]
        names, cells = _every_attacker(rows)
        lines += ["", f"| every attacker, % | {' | '.join(names)} |", "|---" + "|---:" * len(names) + "|"]
        lines += [f"| {' | '.join(texts)} |" for texts in cells]
        lines.append("")
    return "\n".join([*lines, _SPREAD_NOTE, ""])


def headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on one setting: the most that a defense saves at a cost of no more than one point of accuracy.

    Args:
      rows: the rows of one setting, from `summary_rows`.

    Returns:
      A sentence in plain words.
    """
    bare = next((row for row in rows if row["undefended"]), None)
    defended = [row for row in rows if not row["undefended"]]
    start = f"from {_percent(bare['attacker_accuracy'].mean)}" if bare else "(undefended: not measured)"
    limit = bare["attacker_accuracy"].mean if bare else float("inf")
    useful = [row for row in defended if _loss(row, bare) <= _FREE and row["attacker_accuracy"].mean < limit]
    if useful:
        best = min(useful, key=lambda row: row["attacker_accuracy"].mean)
        known = best["l1"].mean == best["l1"].mean
        change = f", changing the responses by {best['l1'].mean:.2f} in mean L1 (of at most 2)" if known else ""
        parameters = f" at {best['parameters']}" if best["parameters"] else ""
        return (
            f"{best['name'][:1].upper()}{best['name'][1:]}{parameters} lowers the worst case over attackers {start} to "
            f"{_percent(best['attacker_accuracy'].mean)} ({_who(best)}) at {_cost(_loss(best, bare))}{change}."
            f"{'' if _informed(best) else _UNTRIED}"
        )
    undefended = f"undefended it is {_percent(limit)}" if bare else "no undefended victim was measured"
    if defended:
        return f"No defense lowers the worst case over attackers at a cost of one point or less; {undefended}."
    return f"No defense was measured; the worst case: {undefended}."


def write(path: str | os.PathLike[str], records: Iterable[Record], *, title: str) -> Path:
    """Write a self-contained HTML report, atomically: one file, no script, nothing loaded from elsewhere.

    Args:
      path: the HTML file; its folder is made when missing.
      records: records of kind ``"tradeoff"``.
      title: heading of the page.

    Returns:
      The path.

    Raises:
      ValueError: there are no such records, or another program's file is there.
      OSError: the file cannot be written.
    """
    records = [record for record in records if record.kind == "tradeoff"]
    if not records:
        raise ValueError("records has no record of kind 'tradeoff': a report needs at least one")
    settings = summary.settings(summary.rows(records))
    chosen = _telling_rows(next(iter(settings.values())))
    page = Template(resources.files("pp_jax.results").joinpath("report_template.html").read_text("utf-8")).substitute(
        title=escape(title),
        headlines="\n".join(_headline_html(setting, rows) for setting, rows in settings.items()),
        curves=_curves_html(records),
        tables="\n".join(_table_html(setting, rows) for setting, rows in settings.items()),
        examples=_report_parts.examples(chosen),
        provenance=_report_parts.provenance(records),
    )
    return _files.write_bytes(path, page.encode("utf-8"), mark=_files.MARKS[".html"])


def _informed(row: Mapping[str, Any]) -> bool:
    """Whether an attacker was tried that does more than train on what it is given."""
    return any(name not in (summary.PLAIN, "hard label") for name in row["attacks"])


def _who(row: Mapping[str, Any]) -> str:
    """The attacker behind the worst case, and what the plain one gets."""
    if row["by"] == summary.PLAIN or row["plain"].mean != row["plain"].mean:
        return f"{row['by']} attacker"
    return f"{row['by']}; plain attacker {_percent(row['plain'].mean)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _loss(row: Mapping[str, Any], bare: Mapping[str, Any] | None) -> float:
    """Accuracy that the defense costs the defender, as a fraction."""
    reference = bare["defender_accuracy"] if bare else row["victim_accuracy"]
    return reference.mean - row["defender_accuracy"].mean


def _cost(loss: float) -> str:
    if loss < 0.0005:
        return "no loss of the defender's accuracy"
    return f"a loss of {100 * loss:.1f} points of the defender's accuracy"


def _cell(measure: str, scale: float, digits: int) -> Callable[[Mapping[str, Any]], str]:
    """A formatter of one measure: mean ± half the range."""

    def text(row: Mapping[str, Any]) -> str:
        value = row[measure]
        if value.mean != value.mean:
            return "–"
        spread = f"{scale * value.half:.{digits}f}"
        return f"{scale * value.mean:.{digits}f}" + (f" ± {spread}" if float(spread) > 0 else "")

    return text


_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("defense", lambda row: row["label"]),
    ("worst case %", _cell("attacker_accuracy", 100, 1)),
    ("by", lambda row: str(row["by"])),
    ("plain %", _cell("plain", 100, 1)),
    ("defender %", _cell("defender_accuracy", 100, 1)),
    ("mean L1", _cell("l1", 1, 2)),
    ("largest L1", _cell("l1_max", 1, 2)),
    ("fidelity %", _cell("fidelity", 100, 1)),
    ("angle °", _cell("angle", 1, 1)),
    ("argmax kept %", _cell("kept_argmax", 100, 1)),
    ("seeds", lambda row: str(len(row["seeds"]))),
)
_ON_A_PHONE = 5  # columns that a narrow screen shows
_SHORT = {"plain %": ("plain %", lambda row: _cell("plain", 100, 1)(row).partition(" ±")[0])}
_IN_A_TERMINAL = ("worst case %", "by", "plain %", "defender %", "mean L1")  # 80 characters wide


def _telling_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """For each defense the row that saves most at little cost, else the cheapest."""
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if not row["undefended"]:
            curves.setdefault(row["curve"], []).append(row)
    telling = []
    for members in curves.values():
        cheap = [row for row in members if _loss(row, None) <= _FREE]
        most_saved, least_lost = (lambda row: row["attacker_accuracy"].mean), (lambda row: _loss(row, None))
        telling.append(min(cheap, key=most_saved) if cheap else min(members, key=least_lost))
    return telling


def _headline_html(setting: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The headline, what it rests on, and the best of every defense at that cost."""
    count = max(len(row["seeds"]) for row in rows)
    cheap = [row for row in _telling_rows(rows) if _loss(row, None) <= _FREE]
    cheap.sort(key=lambda row: row["attacker_accuracy"].mean)
    each = "; ".join(f"{row['label']}: {_percent(row['attacker_accuracy'].mean)} ({_who(row)})" for row in cheap)
    ranking = (
        f"<p>The worst case over attackers at a cost of at most one point, best of each defense: {escape(each)}.</p>"
    )
    return (
        f'<p class="headline">{escape(headline(rows))} <small>{escape(setting)} · '
        f"{'one seed' if count == 1 else f'mean of {count} seeds'}</small></p>{ranking if cheap else ''}"
    )


def _curves_html(records: Sequence[Record]) -> str:
    """The figure for wide screens and paper, and its narrow form for a phone."""
    wide, narrow = (
        "data:image/png;base64,"
        + base64.b64encode(plots.png(plots.tradeoff(records, columns=columns), dpi=150)).decode()
        for columns in (2, 1)
    )
    alternative = (
        "The worst case over attackers against the defender's accuracy and the mean L1 change of the responses"
    )
    return (
        f'<picture><source media="(max-width: 40rem)" srcset="{narrow}">'
        f'<img class="curves" src="{wide}" width="1200" alt="{escape(alternative)}"></picture>'
    )


def _table_html(setting: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """All rows of one setting."""

    def line(tag: str, texts: Iterable[str]) -> str:
        marks = ("" if index < _ON_A_PHONE else ' class="minor"' for index in range(len(_COLUMNS)))
        return "".join(f"<{tag}{mark}>{_cell_html(text)}</{tag}>" for mark, text in zip(marks, texts, strict=True))

    body, previous = [], None
    for row in rows:
        kind = "bare" if row["undefended"] else "first" if row["curve"] != previous else ""
        body.append(f'<tr class="{kind}">{line("td", (cell(row) for _, cell in _COLUMNS))}</tr>')
        previous = row["curve"]
    head = line("th", (heading for heading, _ in _COLUMNS))
    names, cells = _every_attacker(rows)
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = "".join(f"<tr>{''.join(f'<td>{_cell_html(text)}</td>' for text in texts)}</tr>\n" for texts in cells)
    return (
        f'<h3>{escape(setting)}</h3>\n<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(body)
        + f"</tbody></table></div>\n"
        f'<div class="scroll"><table><tr><th>every attacker, %</th>{heads}</tr>\n{lines}</table></div>\n'
        f'<p class="soft">{_SPREAD_NOTE}</p>'
    )


def _every_attacker(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Names of all attackers, and for each row its label and their accuracies."""
    names = list(dict.fromkeys(name for row in rows for name in sorted(row["attacks"], key=lambda n: n != "plain")))
    missing = {name: summary.Range(math.nan, math.nan, math.nan) for name in names}
    return names, [[row["label"], *(_cell(name, 100, 1)(missing | row["attacks"]) for name in names)] for row in rows]


def _cell_html(text: str) -> str:
    """A table cell that breaks between parameters only, and leaves out the spread on a phone."""
    centre, mark, spread = escape(text).replace(" = ", "&nbsp;=&nbsp;").partition(" ± ")
    return f'{centre}<span class="minor">{mark}{spread}</span>' if mark else centre
