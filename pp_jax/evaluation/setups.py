"""What the runs of an evaluation share, one of its cells, and a defense in front of its victim."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax.defenses.cards import Defender
from pp_jax.evaluation.attackers import Attacker
from pp_jax.evaluation.entries import Entry
from pp_jax.evaluation.victims import Images, Victim
from pp_jax.results import records
from pp_jax.results.identity import describe
from pp_jax.serving.blackbox import BlackBox
from pp_jax.training import Recipe
from pp_jax.types import SurrogateDefense, TransferSet

KIND = "tradeoff"


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """All that the runs of an evaluation share.

    Attributes:
        victim: the model that is attacked.
        pool: what is queried.
        test: what everyone is judged on.
        network: the attacker's architecture.
        recipe: how the attacker trains.
        budget: queries of each attacker.
        presumed: the architecture that the defender presumes; the attacker's by default: its presumption is right.
        outliers: images of another distribution that the defender owns.
        start: parameters that the attacker starts from; fresh ones by default.
        probe: images of another pool, that attackers may spend a few queries on.
        own: labelled images of the attackers' own, for those that have some.
        note: what else a record should tell, as JSON values.
        kept: folder of the networks that defenses train for themselves.
        keep_models: whether every stolen model is kept beside its record.
    """

    victim: Victim
    pool: Images
    test: Images
    network: Any
    recipe: Recipe
    budget: int
    presumed: Any = None
    outliers: Any = None
    start: Any = None
    probe: Images | None = None
    note: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kept: Path | None = None
    own: Images | None = None
    keep_models: bool = False

    @functools.cached_property
    def classes(self) -> int:
        """K."""
        shape = jax.eval_shape(self.victim.network, self.victim.params, np.asarray(self.test.images[0])).shape
        return int(shape[-1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = np.shape(self.test.images)[1:]
        return height, width, channels

    def victim_of(self, entry: Entry) -> Victim:
        """The victim that an entry defends.

        Raises:
            ValueError: for an entry that needs outlier exposure where no such victim was given.
        """
        if not entry.exposed:
            return self.victim
        if self.victim.exposed is None:
            raise ValueError(
                f"{entry.label} was published on a victim with outlier exposure: give Victim(…, exposed=…), or "
                "Entry(…, exposed=False) to race it on the plain one"
            )
        return self.victim.exposed

    @functools.cached_property
    def shared(self) -> dict[str, Any]:
        """What every record of this evaluation has in common."""
        how = {"network": describe(self.network), "recipe": describe(self.recipe)}
        if self.start is not None:
            how["start"] = describe(jax.tree.leaves(self.start))
        if self.probe is not None:
            how["probe"] = self.probe.identity
        if self.own is not None:
            how["own"] = self.own.identity
        return {**how, "pool": self.pool.identity, "test": self.test.identity, "budget": self.budget, **self.note}


class Run(NamedTuple):
    """One cell of an evaluation.

    Attributes:
        entry: the defense.
        attacker: who attacks.
        seed: of the attack, the stolen model, an untrained surrogate and the defender's secret key.
    """

    entry: Entry
    attacker: Attacker
    seed: int

    def config(self, setup: Setup) -> dict[str, Any]:
        """What determines the result; its hash names the record."""
        victim = setup.victim_of(self.entry)
        attacker, shared = self.attacker.identity(), setup.shared
        attack = {
            **attacker,
            "pool": setup.pool.name,
            "model": model_name(setup.network),
            "budget": setup.budget,
            "epochs": setup.recipe.epochs,
        }
        defense = dict(_identity(self.entry))
        if setup.presumed is not None:
            defense["presumed"] = model_name(setup.presumed)
        content = {name: value for name, value in shared.items() if name not in setup.note}
        return {
            "victim": victim.identity,
            "attack": attack,
            "defense": defense,
            "setting": records.key(content),
            **setup.note,
            **({"stolen_model": "kept"} if setup.keep_models else {}),
            "seed": self.seed,
        }

    def text(self) -> str:
        """In a few words."""
        return f"{self.entry.text()}, {self.attacker.name}, seed {self.seed}"


@dataclasses.dataclass(frozen=True, eq=False)
class Deployed:
    """A defense in front of its victim, for one seed.

    Attributes:
        box: the prediction API with its audit.
        surrogate: network and parameters by which angles are measured: the defense's own, where it has one.
        attack_key: randomness of queries and recoveries.
        model_key: randomness of the stolen model's initialisation and training.
    """

    box: BlackBox
    surrogate: tuple[Any, Any]
    attack_key: jax.Array
    model_key: jax.Array


@functools.lru_cache(maxsize=256)
def _identity(entry: Entry) -> dict[str, Any]:
    return entry.identity()


def deploy(setup: Setup, entry: Entry, seed: int) -> Deployed:
    """Make the defense of an entry, and put it in front of its victim."""
    attack_key, model_key, surrogate_key, secret = jax.random.split(jax.random.key(seed), 4)
    victim = setup.victim_of(entry)
    guess = setup.network if setup.presumed is None else setup.presumed
    defender = Defender(
        victim.network,
        victim.params,
        victim.images,
        victim.labels,
        victim.recipe,
        setup.classes,
        setup.image_shape,
        guess,
        surrogate_key,
        victim.seed + 1000,
        setup.outliers,
        victim.identity,
        setup.kept,
    )
    defense = entry.make(defender)
    box = BlackBox(victim.network, victim.params, defense, secret)
    if isinstance(defense, SurrogateDefense):
        return Deployed(box, (defense.logits_fn, defense.surrogate), attack_key, model_key)
    return Deployed(box, (guess, guess.init(surrogate_key, setup.image_shape)), attack_key, model_key)


class Stolen(NamedTuple):
    """The responses to an attacker's queries.

    Attributes:
        transfer: images and responses, each image once.
        probe: the same for the few queries of another pool.
        queries: how many were spent.
        seconds: that it took.
    """

    transfer: TransferSet
    probe: TransferSet | None
    queries: int
    seconds: float


def model_name(network: Any) -> str:
    """What tables call an architecture: the class of its module, in lower case."""
    return type(getattr(network, "module", network)).__name__.lower()
