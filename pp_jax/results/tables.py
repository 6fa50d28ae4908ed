"""Tables of runs: mean over seeds ± half the range, in the terminal and as Markdown."""

import base64
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

NOT_RUN = "not run"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse;font-size:.9rem}"
    "th,td{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:right}"
    "th:first-child,td:first-child{text-align:left}"
)
_NOTE = "Mean ± half the range over seeds, where there are several."


@dataclasses.dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: what it shows.
        headings: of the columns.
        rows: the texts.
        note: what a reader must know.
        hidden: headings of the columns that a terminal has no room for.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = _NOTE
    hidden: Sequence[str] = ()

    def print(self) -> None:
        """Show it in the terminal."""
        import rich
        from rich import box
        from rich import table as tables

        lines = tables.Table(box=box.SIMPLE_HEAD, title=self.title, caption=self.note, caption_justify="left")
        lines.pad_edge, lines.padding = False, (0, 1, 0, 0)
        shown = [index for index, heading in enumerate(self.headings) if heading not in self.hidden]
        for index in shown:
            side: Literal["left", "right"] = "right" if index else "left"
            lines.add_column(self.headings[index].replace(" ", "\n", 1), justify=side, no_wrap=index > 0)
        for row in self.rows:
            lines.add_row(*(row[index] for index in shown))
        rich.print(lines)

    def markdown(self) -> str:
        """The table as Markdown, with a line that says on what it was computed."""
        lines = [f"**{self.title}**", "", f"| {' | '.join(self.headings)} |"]
        lines.append("|---" + "|---:" * (len(self.headings) - 1) + "|")
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([*lines, "", self.note, ""])

    def html(self) -> str:
        """The table as HTML, with its note."""
        head = "".join(f"<th>{escape(heading)}</th>" for heading in self.headings)
        rows = "\n".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in self.rows)
        return f"<table>\n<tr>{head}</tr>\n{rows}\n</table>\n<p>{escape(self.note)}</p>"

    def write(self, path: Path) -> Path:
        """Write the Markdown, atomically."""
        from pp_jax import _files

        return _files.write_bytes(path, f"{self.markdown()}\n{_files.MARKDOWN}".encode(), mark=_files.MARKS[".md"])


def page(path: Path, table: Table, figure: bytes, *, lead: str = "") -> Path:
    """Write a self-contained HTML page of a lead, a figure (PNG) and a table, atomically."""
    from pp_jax import _files

    picture = base64.b64encode(figure).decode()
    title, style = escape(table.title), escape(_STYLE)
    text = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="generator" content="pp_jax">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n"
        f"<h1>{title}</h1>\n<p>{escape(lead)}</p>\n"
        f'<img alt="{title}" src="data:image/png;base64,{picture}">\n{table.html()}\n</html>\n'
    )
    return _files.write_bytes(path, text.encode(), mark=_files.MARKS[".html"])


def percent(values: Iterable[float | None]) -> str:
    """Shares as percent over seeds; a missing number is "not run", never a guess."""
    return spread([None if value is None else 100 * value for value in values])


def spread(values: Iterable[float | None], *, digits: int = 1) -> str:
    """Mean ± half the range of the values that are there."""
    present = [value for value in values if value is not None]
    if not present:
        return NOT_RUN
    mean, half = sum(present) / len(present), (max(present) - min(present)) / 2
    text = f"{mean:.{digits}f}"
    return f"{text} ± {half:.{digits}f}" if len(present) > 1 else text


def interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of Student's confidence interval of the mean.

    Raises:
        ValueError: for fewer than two values.
    """
    from scipy import stats

    count = len(values)
    if count < 2:
        raise ValueError(f"a confidence interval needs at least two values, not {count}")
    mean = sum(values) / count
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    return mean, float(stats.t.ppf((1 + level) / 2, count - 1)) * deviation / math.sqrt(count)


def of(runs: Sequence[Any], records: Mapping[Any, Any], *path: str) -> list[float | None]:
    """One number of the record of each cell, None where it has not been computed.

    Args:
        runs: configurations.
        records: by cell.
        path: names inside the record's result.
    """
    numbers = []
    for cell in runs:
        value = records[cell].result if records.get(cell) is not None else None
        for name in path:
            value = None if value is None else value.get(name)
        numbers.append(value)
    return numbers


def provenance(records: Iterable[Any]) -> str:
    """The machine and versions that computed the records."""
    found = {
        f"Python {e['versions']['python']}, jax {e['versions']['jax']}, flax {e['versions']['flax']}, "
        f"optax {e['versions']['optax']}, on {e['device_count']} × {e['device']} ({e['cpu_count']} CPU cores)"
        for e in (record.environment for record in records if record is not None)
    }
    return f"Computed with {'; '.join(sorted(found))}." if found else "Nothing computed yet."
