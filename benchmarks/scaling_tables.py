"""Markdown tables of a scaling run, and their place between the markers of a page."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

UNITS = {"call": 1.0, "flops, small images": 1e9, "flops, large images": 1e9, "parameters": 1e6}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def seconds(value: float) -> str:
    """Three digits with a unit."""
    if value == 0:
        return "0"
    for unit, size in (("years", 365.25 * 86_400), ("days", 86_400), ("h", 3600), ("s", 1), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def laws(fits: Mapping[str, Any]) -> str:
    """The fitted power laws, exponents on both clocks."""
    head = ["stage, variable x", "x", "a", "b·xᵖ at the largest x", "p (wall)", "p (cores)", "largest residual"]
    rows = []
    for name, law in fits["wall"]["laws"].items():
        top = law["factor"] * law["largest"] ** law["exponent"]
        spread = f"{law['smallest']:.3g} … {law['largest']:.3g}"
        fixed = seconds(law["fixed"]) if law["fixed"] else "–"
        exponents = [_exponent(fits[clock]["laws"][name]) for clock in ("wall", "cpu")]
        rows.append([name, spread, fixed, seconds(top), *exponents, f"{law['error']:.0%}"])
    return table(head, rows)


def _exponent(law: Mapping[str, Any]) -> str:
    """p with its interval."""
    return f"{law['exponent']:.2f} [{law['low']:.2f}, {law['high']:.2f}]"


def rates(fits: Mapping[str, Any]) -> str:
    """Seconds for each unit of work."""
    head = ["stage", "clock", "a call", "10⁹ operations", "10⁹, large images", "10⁶ parameters", "error", "held out"]
    rows = []
    for stage in ("forward", "training"):
        for clock, label in (("wall", "wall"), ("cpu", "cores")):
            fit = fits[clock][stage]
            each = fit["seconds"]
            units = [seconds(scale * each[kind]) for kind, scale in UNITS.items()]
            rows.append([stage, label, *units, f"{fit['error']:.0%}", f"{fit['held_out']:.0%}"])
    return table(head, rows)


def parts(rows: Sequence[Row]) -> str:
    """Whole queries against the sum of their parts: both forward passes, from the same networks at the same batch."""
    head = ["network, K = 10", "two forward passes", "whole query", "whole / two forward passes"]
    once = {row["network"]: min(row["wall"]) for row in rows if row["sweep"] == "forward, flops"}
    lines = []
    for row in rows:
        if row["sweep"] == "MAD query, flops":
            twice, whole = 2 * once[row["network"]], min(row["wall"])
            lines.append([row["network"], seconds(twice), seconds(whole), f"{whole / twice:.2f}"])
    return table(head, lines)


def host(rows: Sequence[Row]) -> str:
    """A stream's time a query against the same call on images that lie on the device already."""
    head = ["stream", "queries", "time a query", "queries a second"]
    lines = [
        [row["network"], f"{row['queries']:,}", seconds(each), f"{1 / each:,.0f}"]
        for row in rows
        if row["stage"] == "stream"
        for each in [min(row["wall"]) / row["queries"]]
    ]
    return table(head, lines)


def devices(rows: Sequence[Row]) -> str:
    """One query on meshes of several devices."""
    head = ["network", "batch", "devices", "time", "core time", "times faster than one"]
    base = {row["network"]: min(row["wall"]) for row in rows if row["devices"] == 1}
    lines = []
    for row in rows:
        wall, cpu = min(row["wall"]), min(row["cpu"])
        faster = f"{base[row['network']] / wall:.2f}"
        lines.append([row["network"], str(row["batch"]), str(row["devices"]), seconds(wall), seconds(cpu), faster])
    return table(head, lines)


def predictions(found: Sequence[Row]) -> str:
    """What is expected of larger runs, before they are measured."""
    head = ["larger run", "predicted", "predicted, core time"]
    rows = [[r["name"], seconds(r["predicted"]["wall"]), seconds(r["predicted"]["cpu"])] for r in found]
    return table(head, rows)


def checks(found: Sequence[Row]) -> str:
    """Predictions with their measurements."""
    head = ["larger run", "predicted", "measured", "predicted / measured", "the same in core time"]
    rows = [
        [
            check["name"],
            seconds(check["predicted"]["wall"]),
            seconds(check["measured"]["wall"]),
            f"{check['ratio']['wall']:.2f}",
            f"{check['ratio']['cpu']:.2f}",
        ]
        for check in found
    ]
    return table(head, rows)


def serving(found: Sequence[Row]) -> str:
    """A million queries a day, and a billion."""
    head = [
        "victim and surrogate",
        "a query",
        "core time",
        "10⁶ a day: machine busy",
        "cores",
        "10⁹: this machine",
        "10⁹: core-years",
        "10⁹: operations",
    ]
    rows = [
        [
            each["name"],
            seconds(each["wall"]),
            seconds(each["cpu"]),
            f"{each['utilisation']:.2%}",
            f"{each['cores']:.3g}",
            seconds(each["billion_wall"]),
            f"{each['billion_core_years']:.3g}",
            f"{each['billion_flops']:.3g}",
        ]
        for each in found
    ]
    return table(head, rows)


def attacks(found: Sequence[Row]) -> str:
    """An attack with 50 000 queries: responses, and the attacker's training."""
    head = [
        "attack with 50 000 queries",
        "responses",
        "an epoch of the attacker",
        "100 epochs",
        "responses / whole attack",
    ]
    rows = [
        [
            each["name"],
            seconds(each["responses"]),
            seconds(each["epoch"]),
            seconds(each["training"]),
            f"{each['responses'] / (each['responses'] + each['training']):.2%}",
        ]
        for each in found
    ]
    return table(head, rows)


def machine(result: Mapping[str, Any]) -> str:
    """Where it was measured, in one paragraph."""
    place = result["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in place["versions"].items())
    quick = " A quick run: its numbers mean nothing." if result["quick"] else ""
    return (
        f"Measured on {place['machine']['cpu']}, {place['threads']} cores; {versions}; load "
        f"{place['load_average']:.2f} when the predictions had been made; {result['minutes']:.0f} minutes.{quick}"
    )


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Every table, by the name of its markers."""
    return {
        "machine": machine(result),
        "laws": laws(result["fits"]),
        "rates": rates(result["fits"]),
        "parts": parts(result["rows"]),
        "streams": host(result["rows"]),
        "devices": devices(result["devices"]),
        "checks": checks(result["checks"]),
        "serving": serving(result["serving"]),
        "attacks": attacks(result["attacks"]),
    }


def filled(page: str, found: Mapping[str, str]) -> str:
    """The page with what stands between its markers replaced.

    Raises:
        ValueError: for a marker without its end, or a name that there is no table of.
    """

    def replacement(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in found:
            raise ValueError(f"a marker must name one of {', '.join(found)}, not {name}")
        return f"<!-- begin: {name} -->\n{found[name]}\n<!-- end: {name} -->"

    pattern = r"<!-- begin: (?P<name>[\w-]+) -->\n.*?<!-- end: (?P=name) -->"
    text, count = re.subn(pattern, replacement, page, flags=re.DOTALL)
    if count != page.count("<!-- begin: "):
        raise ValueError(f"every marker must have its end: {count} pairs, {page.count('<!-- begin: ')} beginnings")
    return text
