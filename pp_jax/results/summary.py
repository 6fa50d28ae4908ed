"""Trade-off records summarised for people: one row a defense, the worst case of its attackers over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pp_jax.results.records import Record

UNDEFENDED = "no defense"
PLAIN = "plain"
_DIGESTS = ("content", "setting")
_ATTACKER = ("name", "recovery", "strategy", "learner", "copies", "probes", "privileged")
_SYMBOLS = {"epsilon": "ε", "beta": "β", "gamma": "γ", "alpha": "α", "sigma": "σ", "tau": "τ"}
# What a sweep usually varies, most telling first.
_STRENGTHS = ("epsilon", "beta", "radius", "k", "decimals", "zone", "cutoff", "tau", "share")

_MEASURES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "victim_accuracy": lambda result: result.get("victim_accuracy"),
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
    """One row for every setting and defense, over its attackers and seeds.

    Rows are sorted by setting (victim, pool, model, queries), then defense, undefended first, then strength.

    Args:
      records: records of kind ``"tradeoff"``; others are left out.

    Returns:
      Dicts with the texts ``setting``, ``name``, ``curve`` (rows to be joined by a line), ``label``, ``parameters`` and
      ``strength_text``; ``undefended``; the numbers ``strength`` (what varies along a curve, or None), ``seeds``,
      ``queries`` and ``chance``; ``attacks``, the accuracy of each attacker as a `Range`, and ``by``, who gets most,
      yardsticks left out; a `Range` for each of ``attacker_accuracy`` (the worst case), ``plain`` (the plain attacker),
      ``fidelity`` (of the worst case), ``victim_accuracy``, ``defender_accuracy``, ``l1``, ``l1_max``, ``angle`` and
      ``kept_argmax`` (under the plain attacker's queries); and ``records``, those of the plain attacker first.

    Raises:
      ValueError: for a record from before attackers had names.
    """
    found = [record for record in records if record.kind == "tradeoff"]
    for record in found:
        if "recovery" not in record.config.get("attack", {}):
            raise ValueError(
                f"record {record.path} was written by an older version, which did not name its attacker: compute it "
                "again, in another folder"
            )
    settings = _named([_setting(r.config) for r in found], [_flat(_shared(r.config)) for r in found])
    defenses = [record.config.get("defense", {}) for record in found]
    labels = _named([describe_defense(defense) for defense in defenses], [_flat(defense) for defense in defenses])
    attacks = [{name: r.config["attack"].get(name) for name in _ATTACKER} for r in found]
    attackers = _named([str(attack["name"]) for attack in attacks], [_flat(attack) for attack in attacks])
    groups: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record, setting, label, attacker in zip(found, settings, labels, attackers, strict=True):
        groups.setdefault((setting, label), {}).setdefault(attacker, []).append(record)
    summaries = [_row(setting, label, group) for (setting, label), group in groups.items()]
    return sorted(summaries, key=lambda row: (row["setting"], not row["undefended"], row["curve"], *_order(row)))


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


def _row(setting: str, label: str, group: Mapping[str, list[Record]]) -> dict[str, Any]:
    """The summary of one defense: records by attacker."""
    attacks = {name: _range([r.result.get("attacker_accuracy") for r in several]) for name, several in group.items()}
    real = [name for name, several in group.items() if not several[0].config["attack"].get("privileged")]
    by = max(sorted(real), key=lambda name: (attacks[name].mean, name == PLAIN), default="")
    none = _range([])
    first = group.get(PLAIN) or next(iter(group.values()))
    results = [record.result for record in first]
    defense = first[0].config.get("defense", {})
    strength = _strength(defense)
    others = [record for several in group.values() if several is not first for record in several]
    return {
        "setting": setting,
        "undefended": _name(defense) == UNDEFENDED,
        "name": _name(defense),
        "curve": _curve(defense, strength),
        "label": label,
        "parameters": label.removeprefix(_name(defense)).removeprefix(", "),
        "strength": defense[strength] if strength else None,
        "strength_text": f"{_SYMBOLS.get(strength, strength)} = {_text(defense[strength])}" if strength else "",
        "seeds": sorted({record.config.get("seed", 0) for several in group.values() for record in several}),
        "queries": results[0].get("queries"),
        "chance": results[0].get("chance"),
        "attacks": attacks,
        "by": by,
        "attacker_accuracy": attacks.get(by, none),
        "plain": attacks.get(PLAIN, none),
        **{name: _range([measure(result) for result in results]) for name, measure in _MEASURES.items()},
        "fidelity": _range([record.result.get("fidelity") for record in group.get(by, [])]),
        "records": [*first, *others],
    }


def _setting(config: Mapping[str, Any]) -> str:
    """Victim, pool, models and queries in words."""
    victim, attack = config.get("victim", {}), config.get("attack", {})
    budget = attack.get("budget")
    queries = f"{budget:,} queries".replace(",", " ") if isinstance(budget, int) else "? queries"
    models = [str(model) for model in (victim.get("model"), attack.get("model")) if model]
    models = models[:1] if len(set(models)) == 1 else models
    return f"{victim.get('dataset', '?')} ← {attack.get('pool', '?')} · {' ← '.join(models) or '?'} · {queries}"


def _shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """What all attackers and defenses of a setting share."""
    attack = {name: item for name, item in config.get("attack", {}).items() if name not in _ATTACKER}
    return {**{name: item for name, item in config.items() if name != "defense"}, "attack": attack}


def _named(texts: list[str], details: list[dict[str, Any]]) -> list[str]:
    """Each text with whatever tells it from others of the same text; digests only where nothing else does."""
    namesakes: dict[str, dict[str, dict[str, Any]]] = {}
    for text, detail in zip(texts, details, strict=True):
        namesakes.setdefault(text, {})[repr(sorted(detail.items()))] = detail

    def named(text: str, detail: Mapping[str, Any]) -> str:
        others = namesakes[text].values()
        telling = sorted(key for key in detail if any(other.get(key) != detail[key] for other in others))
        words = [key for key in telling if key.rpartition(".")[2] not in _DIGESTS]
        told = [f"{key} = {_text(detail[key])}" for key in words] or [str(detail[key])[:6] for key in telling]
        return ", ".join([text, *told])

    return [named(text, detail) for text, detail in zip(texts, details, strict=True)]


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
    return str(defense.get("name", "?"))


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
    shown = {name: value for name, value in defense.items() if not isinstance(value, bool)}
    names = sorted(
        (name for name in shown if name not in ("name", *_DIGESTS)), key=lambda name: (name != strength, name)
    )
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
