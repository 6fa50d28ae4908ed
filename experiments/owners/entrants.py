"""Who takes part in the arms race: every family at every budget, on its victim and with its surrogate."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from owners import families
from owners.defenses import Defense, Name
from owners.surrogates import Surrogate

if TYPE_CHECKING:
    import steal
    from armsrace import Config


class Entrant(NamedTuple):
    """Who races: a defense on its victim and with its surrogate.

    Attributes:
        defense: at one strength.
        exposed: whether its victim is trained with outlier exposure.
        surrogate: in place of the race's.
    """

    defense: Defense
    exposed: bool = False
    surrogate: Surrogate | None = None

    @staticmethod
    def of(defense: Defense) -> Entrant:
        """With the victim and the surrogate of its family."""
        family = families.FAMILIES[defense.name]
        return Entrant(defense, family.exposed, family.surrogate)


class Start(NamedTuple):
    """An entrant, and why it races so.

    Attributes:
        entrant: who.
        l1: mean L1 distance that it may cost; None where something else was given.
        met: whether calibration got there.
        note: what its name does not say.
    """

    entrant: Entrant
    l1: float | None = None
    met: bool = True
    note: str = ""


def entered(config: Config) -> list[Start]:
    """Every family at every budget, and as published; what has no strength, or a victim of its own, once bare."""
    listed: list[Start] = []
    if any(families.FAMILIES[name].exposed for name in config.defenses):
        listed.append(Start(Entrant(Defense("none"), exposed=True)))
    listed += [Start(Entrant.of(Defense(name)), note="no budget") for name in config.defenses if not _turned(name)]
    for l1 in config.l1:
        for name in filter(_turned, config.defenses):
            defense, found = families.calibrated(name, _held_out(config, name), target=l1)
            full = _full(name, found)
            note = f"full strength, costs {found.cost:.2f}" if full else ""
            listed.append(Start(Entrant.of(defense), None if full else l1, found.met or full, note))
    for points in config.accuracy_loss:
        for name in filter(_turned, config.defenses):
            defense, found = families.calibrated(name, _held_out(config, name, labelled=True), target=points / 100)
            full = _full(name, found)
            note = f"full strength, loses {100 * found.cost:.1f} points" if full else f"may lose {points:g} points"
            listed.append(Start(Entrant.of(defense), None, found.met or full, note))
    for name in filter(_turned, config.defenses if config.published else ()):
        if (reported := families.published(name)) is not None:
            listed.append(Start(Entrant.of(reported), note="published"))
    return [start._replace(note=_told(start)) for start in listed]


def _full(name: Name, found: Any) -> bool:
    """Whether a family cannot cost as much as it may, and races at its full strength."""
    return not found.met and bool(found.strength == families.FAMILIES[name].high)


def _turned(name: Name) -> bool:
    """Whether a family has a strength."""
    return families.FAMILIES[name].parameter is not None


def _told(start: Start) -> str:
    """The note of a start, with the victim where that is not the race's."""
    return ", ".join(filter(None, (start.note, "outlier-exposed victim" if start.entrant.exposed else "")))


def _held_out(config: Config, name: Name, *, labelled: bool = False) -> families.HeldOut:
    """What a family is calibrated on; alike for families alike in victim, surrogate and networks."""
    like = config.cells(Entrant.of(Defense(name)), "soft")[0]
    if like.defense.needs() is None:
        like = dataclasses.replace(like, defense=Defense("none"))
    return _held_out_once(like, labelled)


@functools.lru_cache(maxsize=8)
def _held_out_once(like: steal.Config, labelled: bool) -> families.HeldOut:
    return families.held_out(like, labelled=labelled)
