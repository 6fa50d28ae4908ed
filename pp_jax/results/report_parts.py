"""Pieces of the HTML report: example responses and provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pp_jax.results.records import Record

_SHOWN_EXAMPLES = 3
_SHOWN_CLASSES = 10
_WIDTH, _HEIGHT, _FOOT = 160, 84, 14  # of a bar chart, in its own units


def examples(rows: Iterable[Mapping[str, Any]]) -> str:
    """Images with their clean posterior and the response side by side, for one row of each defense."""
    parts = []
    for row in rows:
        record = row["records"][0]
        if shown := record.result.get("examples", [])[:_SHOWN_EXAMPLES]:
            cards = "\n".join(_card(example) for example in shown)
            parts.append(f'<h3>{escape(row["label"])}</h3>\n<div class="examples">\n{cards}\n</div>')
    if not parts:
        return "<p>The records hold no examples.</p>"
    note = "Orange marks the likeliest class of each chart."
    return f'<p class="soft">{note}</p>\n' + "\n".join(parts)


def provenance(records: Sequence[Record]) -> str:
    """Commands, seeds, versions, machines and times of the records."""
    environments = [record.environment for record in records]
    versions = [
        ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
        for environment in environments
    ]
    machines = [
        f"{environment.get('device', '?')} × {environment.get('device_count', '?')}, "
        f"{environment.get('cpu_count', '?')} CPU cores, {environment.get('platform', '?')}"
        for environment in environments
    ]
    times = sorted(str(environment.get("time", "?")) for environment in environments)
    seeds = _distinct(record.config.get("seed", "?") for record in records)
    seconds = sum(float(record.timings.get("total_s") or 0) for record in records)
    facts = {
        "Command": [f"<code>{escape(text)}</code>" for text in _distinct(e.get("command", "?") for e in environments)],
        "Seeds": [escape(", ".join(sorted(seeds, key=lambda seed: (len(seed), seed))))],
        "Records": [escape(f"{len(records)} runs, {seconds:.0f} s of work, written {times[0]} to {times[-1]}")],
        "Versions": [escape(text) for text in _distinct(versions)],
        "Revision": [escape(text) for text in _distinct(e.get("git_revision") or "none" for e in environments)],
        "Machine": [escape(text) for text in _distinct(machines)],
    }
    items = (f"<dt>{name}</dt>" + "".join(f"<dd>{text}</dd>" for text in texts) for name, texts in facts.items())
    return "<dl>\n" + "\n".join(items) + "\n</dl>"


def _distinct(values: Iterable[Any]) -> list[str]:
    """Each value once, as text, in the order of first appearance."""
    return list(dict.fromkeys(str(value) for value in values))


def _card(example: Mapping[str, Any]) -> str:
    """One image and two bar charts."""
    clean, answer = (list(map(float, example[name])) for name in ("clean", "answer"))
    names = [str(name) for name in example.get("class_names") or range(len(clean))]
    change = sum(abs(a - b) for a, b in zip(clean, answer, strict=True))
    shown = _telling_classes(clean, answer)
    label = example.get("label")
    caption = f"class {names[label]}" if isinstance(label, int) and 0 <= label < len(names) else "query"
    image = f'<img src="data:image/png;base64,{escape(str(example["image_png"]))}" alt="{escape(caption)}">'
    hidden = f" ({len(shown)} of {len(clean)} classes)" if len(shown) < len(clean) else ""
    return (
        f'<div class="example"><figure>{image}<figcaption>{escape(caption)}</figcaption></figure>'
        + _chart(clean, names, shown, f"clean{hidden}")
        + _chart(answer, names, shown, f"response, L1 {change:.2f}")
        + "</div>"
    )


def _telling_classes(clean: Sequence[float], answer: Sequence[float]) -> list[int]:
    """Indices of the classes with most probability in either posterior, in their own order."""
    peaks = [max(pair) for pair in zip(clean, answer, strict=True)]
    return sorted(sorted(range(len(peaks)), key=lambda index: -peaks[index])[:_SHOWN_CLASSES])


def _chart(probs: Sequence[float], names: Sequence[str], shown: Sequence[int], caption: str) -> str:
    """A bar chart of a posterior over the classes shown."""
    top = max(range(len(probs)), key=lambda index: probs[index])
    step = _WIDTH / len(shown)
    bars = []
    for place, index in enumerate(shown):
        height = min(max(probs[index], 0.0), 1.0) * (_HEIGHT - _FOOT)
        x, color = place * step, "#d55e00" if index == top else "#0072b2"
        bars.append(
            f'<rect x="{x + 0.12 * step:.1f}" y="{_HEIGHT - _FOOT - height:.1f}" width="{0.76 * step:.1f}" '
            f'height="{height:.1f}" fill="{color}"/>'
            f'<text x="{x + step / 2:.1f}" y="{_HEIGHT - 3}" font-size="10" text-anchor="middle" fill="#444">'
            f"{escape(names[index][:3])}</text>"
        )
    words = ", ".join(f"{names[index]} {100 * probs[index]:.0f} %" for index in shown if probs[index] >= 0.01)
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(f"{caption}: {words}")}">'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT - _FOOT}" y2="{_HEIGHT - _FOOT}" stroke="#888"/>{"".join(bars)}</svg>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
