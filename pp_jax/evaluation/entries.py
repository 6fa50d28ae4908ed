"""A row of an evaluation: a defense, or the class of one with the parameters that it is to be fitted with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pp_jax import _checks
from pp_jax.defenses.cards import Card, Carded, Defender, Fitted, Strength
from pp_jax.defenses.composition import Chain
from pp_jax.results.identity import describe, digest

_SYMBOLS = {"epsilon": "ε", "beta": "β", "gamma": "γ", "tau": "τ", "nu": "ν"}


class Entry:
    """A defense class with parameters, to be made for each victim and seed; or a defense that is ready.

        Entry(MAD, epsilon=0.99)        Entry(Top1)        Entry(MyDefense(0.3))

    Args:
        defense: a defense class, or an object of one.
        label: its name in tables; by default the one on the class's card.
        exposed: whether it defends the victim with outlier exposure; by default as its card says.
        parameters: what the class is called with, or its `fitted`, where it is made for a victim; what is not given is
            as its authors report it.

    Raises:
        ValueError: for parameters beside a ready defense, or an object that is no defense.
    """

    def __init__(self, defense: Any, *, label: str | None = None, exposed: bool | None = None, **parameters: Any):
        if not isinstance(defense, type):
            if parameters:
                raise ValueError(
                    f"{type(defense).__name__} is ready: parameters {', '.join(parameters)} need the class"
                )
            _checks.check_defense(defense)
        self.defense = defense
        kind = defense if isinstance(defense, type) else type(defense)
        self._given = label, exposed
        self.card = kind.card if isinstance(kind, Carded) else Card(kind.__name__)
        # What is not given is as published.
        published = self.card.published if isinstance(defense, type) else {}
        self.parameters: Mapping[str, Any] = {**published, **parameters}
        self.exposed = self.card.exposed if exposed is None else exposed
        self.label = label or self._name()

    def __repr__(self) -> str:
        """As it was written."""
        given = "".join(f", {name}={value!r}" for name, value in self.parameters.items())
        name = self.defense.__name__ if isinstance(self.defense, type) else repr(self.defense)
        return f"Entry({name}{given})"

    @classmethod
    def of(cls, defense: Any) -> Entry:
        """An entry as it is; anything else as an entry."""
        return defense if isinstance(defense, Entry) else cls(defense)

    @property
    def undefended(self) -> bool:
        """Whether this is no defense."""
        return isinstance(self.defense, Chain) and not self.defense.defenses

    @property
    def strength(self) -> Strength | None:
        """What is turned to make it stronger; a ready defense is raced as it is."""
        return self.card.strength if isinstance(self.defense, type) else None

    def at(self, strength: Any) -> Entry:
        """The same entry with another strength.

        Raises:
            ValueError: where there is nothing to turn.
        """
        if self.strength is None:
            raise ValueError(f"{self.label} has no strength to be turned")
        label, exposed = self._given
        changed = {**self.parameters, self.strength.parameter: strength}
        return Entry(self.defense, label=label, exposed=exposed, **changed)

    def published(self) -> Entry | None:
        """The same class as its authors report it; None where they report no setting."""
        if not isinstance(self.defense, type) or not self.card.published:
            return None
        label, exposed = self._given
        return Entry(self.defense, label=label, exposed=exposed, **{**self.parameters, **self.card.published})

    def make(self, defender: Defender) -> Any:
        """The defense for one victim and seed.

        Raises:
            ValueError: as the class does, and for an object that breaks the contract of a defense.
        """
        if not isinstance(self.defense, type):
            return self.defense
        try:
            kind = self.defense
            made = kind.fitted(defender, **self.parameters) if isinstance(kind, Fitted) else kind(**self.parameters)
        except TypeError as error:
            raise ValueError(f"{self!r} cannot be made: {error}") from error
        _checks.check_defense(made)
        return made

    def identity(self) -> dict[str, Any]:
        """Name and parameters as a record has them, and a digest of all that determines the defense."""
        shown = self._shown()
        content = [describe(self.defense, where=self.label), describe(self.parameters, where=self.label), self.exposed]
        return {"name": self.label, **shown, "content": digest(content)}

    def text(self) -> str:
        """The entry in words: `MAD, ε = 0.99`."""
        shown = {name: value for name, value in self._shown().items() if not isinstance(value, bool)}
        return ", ".join(
            [self.label, *(f"{_SYMBOLS.get(name, name)} = {_text(value)}" for name, value in shown.items())]
        )

    def _shown(self) -> dict[str, Any]:
        """The parameters that are numbers or texts."""
        values: Mapping[str, Any] = self.parameters
        if not isinstance(self.defense, type) and dataclasses.is_dataclass(self.defense):
            values = {field.name: getattr(self.defense, field.name) for field in dataclasses.fields(self.defense)}
        return {name: value for name, value in values.items() if isinstance(value, int | float | str)}

    def _name(self) -> str:
        if self.undefended:
            return "no defense"
        values: Mapping[str, Any] = self.parameters
        return self.card.named(values)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
