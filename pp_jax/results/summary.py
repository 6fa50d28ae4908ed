"""Trade-off records summarised for people: one row a defense setting, means and ranges over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pp_jax.results.records import Record

_LABELS = {
    "none": "no defense",
    "mad": "MAD",
    "mad_argmax": "MAD-argmax",
    "mad_interpolated": "MAD, vertex after interpolation",
    "mad_exact": "MAD, exact optimum",
    "min_inner": "minimum inner product",
    "reverse_sigmoid": "reverse sigmoid",
    "random_noise": "random noise",
    "top_k": "top-k",
    "top_1": "top-1",
    "grad2": "GRAD²",
    "grad2_argmax": "GRAD²-argmax",
    "modelguard_w": "ModelGuard-W",
    "modelguard_s": "ModelGuard-S",
    "misinformation": "adaptive misinformation",
    "edm": "EDM",
    "keyed_swap": "keyed swap",
    "always_swapped": "strange queries always swapped",
    "merged": "strange queries' pairs merged",
    "learned": "learned poison",
    "dcp": "DCP",
    "bdpl": "BDPL",
    "high_confidence": "cut-off",
}
_SYMBOLS = {"epsilon": "ε", "beta": "β", "gamma": "γ", "alpha": "α", "sigma": "σ", "tau": "τ"}
# What a sweep usually varies, most telling first.
_STRENGTHS = ("epsilon", "beta", "radius", "k", "decimals", "zone", "cutoff", "tau", "share")

_MEASURES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "victim_accuracy": lambda result: result.get("victim_accuracy"),
    "attacker_accuracy": lambda result: result.get("attacker_accuracy"),
    "defender_accuracy": lambda result: result.get("defender_accuracy"),
    "fidelity": lambda result: result.get("fidelity"),
    "l1": lambda result: result.get("query_l1", {}).get("mean"),
    "l1_max": lambda result: result.get("query_l1", {}).get("max"),
    "angle": lambda result: result.get("query_angle_degrees", {}).get("mean"),
    "kept_argmax": lambda result: result.get("query_kept_argmax"),
}


class Range(NamedTuple):
    """Mean, smallest and largest value over seeds; NaN where no seed has the value."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the range."""
        return (self.high - self.low) / 2


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row for every setting and defense, over its seeds.

    Records that differ in nothing but the seeds (their own and the victim's) are one row. Rows are sorted by setting
    (victim, pool, queries, labels), then defense, undefended first, then strength.

    Args:
      records: records of kind ``"tradeoff"``; others are left out.

    Returns:
      Dicts with the texts ``setting``, ``defense``, ``name``, ``curve`` (rows to be joined by a line), ``label``,
      ``parameters`` and ``strength_text``; the numbers ``strength`` (what varies along a curve, or None), ``seeds``,
      ``queries`` and ``chance``; a `Range` for each of ``victim_accuracy``, ``attacker_accuracy``,
      ``defender_accuracy``, ``fidelity``, ``l1``, ``l1_max``, ``angle`` and ``kept_argmax``; and ``records``.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.kind == "tradeoff":
            groups.setdefault(repr(sorted(_flat(record.config).items())), []).append(record)
    names = _setting_names([group[0].config for group in groups.values()])
    summaries = [{**_row(group), "setting": name} for group, name in zip(groups.values(), names, strict=True)]
    return sorted(summaries, key=lambda row: (row["setting"], row["defense"] != "none", row["curve"], *_order(row)))


def settings(summaries: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each setting, in their order."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in summaries:
        grouped.setdefault(row["setting"], []).append(row)
    return grouped


def describe_defense(defense: Mapping[str, Any]) -> str:
    """A defense in words: ``MAD, ε = 0.5``."""
    parameters = _parameters(defense)
    return f"{_name(defense)}, {parameters}" if parameters else _name(defense)


def _row(group: list[Record]) -> dict[str, Any]:
    """The summary of records that differ in their seeds only."""
    config, results = group[0].config, [record.result for record in group]
    defense = config.get("defense", {})
    strength = _strength(defense)
    return {
        "defense": str(defense.get("name", "?")),
        "name": _name(defense),
        "curve": _curve(defense, strength),
        "label": describe_defense(defense),
        "parameters": _parameters(defense),
        "strength": defense[strength] if strength else None,
        "strength_text": f"{_SYMBOLS.get(strength, strength)} = {_text(defense[strength])}" if strength else "",
        "seeds": sorted({record.config.get("seed", 0) for record in group}),
        "queries": results[0].get("queries"),
        "chance": results[0].get("chance"),
        **{name: _range([measure(result) for result in results]) for name, measure in _MEASURES.items()},
        "records": group,
    }


def _setting(config: Mapping[str, Any]) -> str:
    """Victim, pool, queries and labels in words."""
    victim, attack = config.get("victim", {}), config.get("attack", {})
    labels = "" if attack.get("labels", "soft") == "soft" else f", thief trains on {attack['labels']} labels"
    budget = attack.get("budget")
    queries = f"{budget:,} queries".replace(",", " ") if isinstance(budget, int) else "? queries"
    models = [str(model) for model in (victim.get("model"), attack.get("model")) if model]
    models = models[:1] if len(set(models)) == 1 else models
    return (
        f"{victim.get('dataset', '?')} ← {attack.get('pool', '?')} · {' ← '.join(models) or '?'} · "
        f"{attack.get('name', '?')}, {queries}{labels}"
    )


def _setting_names(configs: list[Mapping[str, Any]]) -> list[str]:
    """The setting of each configuration, with whatever else tells two settings apart."""
    details = [_flat({name: item for name, item in config.items() if name != "defense"}) for config in configs]
    texts = [_setting(config) for config in configs]
    names = []
    for text, detail in zip(texts, details, strict=True):
        namesakes = [other for other, other_text in zip(details, texts, strict=True) if other_text == text]
        telling = sorted(key for key in detail if any(other.get(key) != detail[key] for other in namesakes))
        names.append(", ".join([text, *(f"{key} = {_text(detail[key])}" for key in telling)]))
    return names


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names and values of a nested mapping, without seeds."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if name != "seed":
            flat.update(_flat(item, f"{prefix}.{name}" if prefix else name))
    return flat


def _name(defense: Mapping[str, Any]) -> str:
    name = str(defense.get("name", "?"))
    return _LABELS.get(name, name.replace("_", " "))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _strength(defense: Mapping[str, Any]) -> str | None:
    """The parameter that a sweep over this defense varies."""
    numbers = [name for name, value in defense.items() if _is_number(value)]
    usual = [name for name in _STRENGTHS if name in numbers]
    return next(iter(usual or sorted(numbers)), None)


def _curve(defense: Mapping[str, Any], strength: str | None) -> str:
    """The defense without its strength: rows with the same text are points of one curve."""
    rest = {name: value for name, value in defense.items() if name != strength}
    return describe_defense(rest)


def _parameters(defense: Mapping[str, Any]) -> str:
    """Every parameter, the strength first."""
    strength = _strength(defense)
    names = sorted((name for name in defense if name != "name"), key=lambda name: (name != strength, name))
    return ", ".join(f"{_SYMBOLS.get(name, name)} = {_text(defense[name])}" for name in names)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _order(row: Mapping[str, Any]) -> tuple[float, str]:
    strength = row["strength"]
    return (strength if strength is not None else -math.inf, row["parameters"])


def _range(values: list[Any]) -> Range:
    """Mean and range of the values that are there."""
    present = [float(value) for value in values if _is_number(value)]
    if not present:
        return Range(math.nan, math.nan, math.nan)
    return Range(sum(present) / len(present), min(present), max(present))
