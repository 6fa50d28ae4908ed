"""Attackers as values, and the standard set that a defense is judged by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

from pp_jax.attacks.knockoff import Knockoff
from pp_jax.attacks.near_copies import NearCopies
from pp_jax.attacks.online import Sees
from pp_jax.defenses.misinformation import MisinformationLoss
from pp_jax.recovery.ddae import DDAEPlus
from pp_jax.recovery.inversion import Inversion, KnownWeightsInversion
from pp_jax.recovery.neighbours import Neighbours
from pp_jax.recovery.partial_bayes import PartialBayes
from pp_jax.recovery.passing import Consistent, CopyTest, PassingKnown
from pp_jax.recovery.selecting import AsGiven, ClassBalanced, HardLabel, MostConfident
from pp_jax.recovery.self_training import PairRelabelling, SelfTraining
from pp_jax.results.identity import describe
from pp_jax.training import Rotations
from pp_jax.types import QueryStrategy, Recovery


@dataclasses.dataclass(frozen=True)
class Learner:
    """How an attacker trains.

    Attributes:
        loss: of `pp_jax.training`; None for soft cross-entropy. One that learns from unlabelled images is given those
            of the pool that were not queried.
        extra_outputs: of the network, beyond the classes, that the loss trains for a task of its own.
        held_out: share of the transfer set that is not trained on but chooses the best epoch.

    Raises:
        ValueError: for a share outside [0, 1), or one beside extra outputs.
    """

    loss: Any = None
    extra_outputs: int = 0
    held_out: float = 0.0

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}: must be at least 0 and below 1")
        if self.held_out and self.extra_outputs:
            raise ValueError(f"held_out is {self.held_out}: must be 0 where there are extra outputs")


@dataclasses.dataclass(frozen=True)
class Attacker:
    """Which queries it makes, what it makes of the responses, and how it learns.

    Attributes:
        name: in tables.
        recovery: what it does with the responses before it trains.
        strategy: how it chooses its queries.
        learner: how it trains.
        copies: changed copies of each image, every one a query; their responses are averaged.
        probes: queries of its budget that go to another pool, where there is one, to tell what is answered truly.
        privileged: whether it is told what no attacker knows (the defender's weights, the key): a yardstick, which does
            not count as the worst case.
        online: train on each batch of responses as it comes, one step a batch, while the defense takes for its
            surrogate the "attacker"'s own weights (white box), those of a "proxy" trained alongside, or leaves it as it
            is ("fixed"). Queries are then in random order, and training begins from fresh parameters.

    Raises:
        ValueError: for fewer than one copy, or parts that an online attacker has no use for.
    """

    name: str
    recovery: Recovery = AsGiven()  # noqa: RUF009
    strategy: QueryStrategy[Any] = Knockoff()  # noqa: RUF009
    learner: Learner = Learner()
    copies: int = 1
    probes: int = 0
    privileged: bool = False
    online: Sees | None = None

    def __post_init__(self) -> None:
        """Check the copies, and that an online attacker is nothing else."""
        if self.copies < 1 or self.probes < 0:
            raise ValueError(f"copies is {self.copies} and probes {self.probes}: must be at least 1 and at least 0")
        if self.online not in (None, *get_args(Sees)):
            raise ValueError(f"online is {self.online!r}: must be one of {', '.join(get_args(Sees))}, or None")
        parts = (self.recovery, self.strategy, self.learner, self.copies, self.probes)
        if self.online is not None and parts != (AsGiven(), Knockoff(), Learner(), 1, 0):
            raise ValueError(f"online is {self.online!r}: must be None where another part is not the default")

    @property
    def batches(self) -> bool:
        """Whether its stolen models may be trained together, as one program."""
        return self.online is None and self.learner == Learner()

    def identity(self) -> dict[str, Any]:
        """Name and parts, as a record has them."""
        parts = {
            "recovery": self.recovery,
            "strategy": self.strategy,
            "learner": self.learner,
            "copies": self.copies,
            "probes": self.probes,
        }
        if self.online is not None:
            parts["online"] = self.online
        told = {"privileged": True} if self.privileged else {}
        return {"name": self.name, **{name: describe(part, where=name) for name, part in parts.items()}, **told}


@dataclasses.dataclass(frozen=True)
class AttackerSet:
    """A named, versioned set of attackers: figures that quote it can be compared.

    Attributes:
        name: of the set.
        version: changes whenever a member does.
        attackers: the members.
    """

    name: str
    version: str
    attackers: tuple[Attacker, ...]

    def __iter__(self) -> Iterator[Attacker]:
        """The members."""
        return iter(self.attackers)

    def __len__(self) -> int:
        """How many."""
        return len(self.attackers)

    def named(self, name: str) -> Attacker:
        """The member of a name.

        Raises:
            ValueError: where there is none.
        """
        for attacker in self.attackers:
            if attacker.name == name:
                return attacker
        raise ValueError(f"there is no attacker {name!r}: {self.name} has {', '.join(a.name for a in self.attackers)}")


PLAIN = Attacker("plain")
HARD_LABEL = Attacker("hard label", HardLabel())
BALANCED = Attacker("class-balanced", ClassBalanced())
CONFIDENT = Attacker("most confident", MostConfident())
SMOOTHING = Attacker("smoothing", copies=3)
SELF_TRAINING = Attacker("self-training", SelfTraining())
INVERSION = Attacker("inversion", Inversion())
PARTIAL_BAYES = Attacker("partial Bayes", PartialBayes())
DDAE_PLUS = Attacker("D-DAE+", DDAEPlus())
S4L = Attacker("S4L", learner=Learner(Rotations(0.3), extra_outputs=4))
RELABELLING = Attacker("pair relabelling", PairRelabelling())
NEIGHBOURS = Attacker("neighbours", Neighbours(), probes=100)
KNOWN_WEIGHTS = Attacker("inversion, weights known", KnownWeightsInversion(), privileged=True)
CONSISTENT = Attacker("consistent", Consistent())
COPY_TEST = Attacker("copy test", CopyTest(), NearCopies())
COMPLEMENTARY = Attacker("complementary", HardLabel(), learner=Learner(MisinformationLoss()))
PASSING_KNOWN = Attacker("passing known", PassingKnown(), privileged=True)

STANDARD = AttackerSet(
    "standard",
    "2026.11",
    (
        PLAIN,
        HARD_LABEL,
        BALANCED,
        CONFIDENT,
        SMOOTHING,
        SELF_TRAINING,
        INVERSION,
        PARTIAL_BAYES,
        DDAE_PLUS,
        S4L,
        RELABELLING,
        NEIGHBOURS,
    ),
)
"""The attackers that a claim about a defense must stand against."""

_LOOKED_UP = Attacker("partial Bayes", PartialBayes(samples=200_000))
QUICK = AttackerSet("quick", "2026.11", (PLAIN, HARD_LABEL, INVERSION, _LOOKED_UP, NEIGHBOURS))
"""Those of `STANDARD` that cost little more than the plain attacker: for a laptop, not for a claim."""
