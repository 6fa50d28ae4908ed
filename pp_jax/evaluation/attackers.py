"""Attackers as values, and the standard set that a defense is judged by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol, get_args, runtime_checkable

from pp_jax.attacks.knockoff import Knockoff
from pp_jax.attacks.near_copies import NearCopies
from pp_jax.attacks.online import Sees
from pp_jax.data.reshaping import Centred
from pp_jax.defenses.misinformation import MisinformationLoss
from pp_jax.evaluation.weights import Weights
from pp_jax.recovery.ddae import DDAEPlus
from pp_jax.recovery.inference import DefenseInference
from pp_jax.recovery.inversion import Inversion, KnownWeightsInversion
from pp_jax.recovery.neighbours import Neighbours
from pp_jax.recovery.partial_bayes import PartialBayes
from pp_jax.recovery.passing import Consistent, CopyTest, PassingKnown
from pp_jax.recovery.selecting import AsGiven, ClassBalanced, HardLabel, MostConfident, NoResponses
from pp_jax.recovery.self_training import PairRelabelling, SelfTraining
from pp_jax.results.identity import describe
from pp_jax.training import Rotations, Tempered
from pp_jax.training.contracts import LabelledLoss
from pp_jax.types import QueryStrategy, Recovery


@dataclasses.dataclass(frozen=True)
class Learner:
    """How an attacker trains.

    Attributes:
        loss: of `pp_jax.training`; None for soft cross-entropy. One that learns from unlabelled images is given those
            of the pool that were not queried.
        extra_outputs: of the network, beyond the classes, that the loss trains for a task of its own.
        held_out: share of the transfer set that is not trained on but chooses the best epoch.
        start: imported weights that it begins from, in place of fresh ones or those of the evaluation.
        adapted: predict with a head that adapts to the images it is asked about, with so many supports a class
            (`training.t3a`; E3: 100); 0 for the head as it was trained. Such an attacker sees the test images, without
            labels, at once.

    Raises:
        ValueError: for a share outside [0, 1), one beside extra outputs, or a number of supports that does not fit.
    """

    loss: Any = None
    extra_outputs: int = 0
    held_out: float = 0.0
    start: Weights | None = None
    adapted: int = 0

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}: must be at least 0 and below 1")
        if self.held_out and self.extra_outputs:
            raise ValueError(f"held_out is {self.held_out}: must be 0 where there are extra outputs")
        if self.adapted < 0 or (self.adapted and self.extra_outputs):
            raise ValueError(f"adapted is {self.adapted}: must be at least 0, and 0 where there are extra outputs")

    @property
    def reads_unlabelled(self) -> bool:
        """Whether it learns from images that were not queried as well."""
        if isinstance(self.loss, LabelledLoss):
            return self.loss.reads_unlabelled
        return self.loss is not None

    def identity(self) -> dict[str, Any]:
        """Its parts, as a record has them; what was added to learners later is left out where it is not used."""
        found: dict[str, Any] = describe(dataclasses.replace(self, start=None), where="learner")
        del found["start"]
        if not self.adapted:
            del found["adapted"]
        return found if self.start is None else {**found, "start": self.start.identity()}


@runtime_checkable
class Reshape(Protocol):
    """What an attacker does to the images of its pool, to make them look like those that the victim reads."""

    def applies_to(self, images: Any) -> bool:
        """Return whether it can be done to such images, (N, H, W, C)."""

    def __call__(self, images: Any) -> Any:
        """Return as many images of the same form."""


@dataclasses.dataclass(frozen=True)
class Attacker:
    """Which queries it makes, what it makes of the responses, and how it learns.

    Attributes:
        name: in tables.
        recovery: what it does with the responses before it trains.
        strategy: how it chooses its queries.
        learner: how it trains.
        copies: changed copies of each image, every one a query; their responses are averaged.
        accounts: over which it spreads its queries, in their order and evenly; to a defense with memory each is new.
        reshape: what it does to the images of its pool before it queries them: `reshape(images)`, images of the same
            form, with `applies_to(images)`; such as `data.reshaping.Centred`.
        own: labelled images that it has of its own (`evaluate(…, own=…)`): copies of them, turned, scaled and shifted,
            are half of what it trains on.
        probes: queries of its budget that go to another pool, where there is one, to tell what is answered truly.
        privileged: whether it is told what no attacker knows (the defender's weights, the key): a yardstick, which does
            not count as the worst case.
        online: train on each batch of responses as it comes, one step a batch, while the defense takes for its
            surrogate the "attacker"'s own weights (white box), those of a "proxy" trained alongside, or leaves it as it
            is ("fixed"). Queries are then in random order, and training begins from fresh parameters.

    Raises:
        ValueError: for fewer than one copy or account, or parts that an online attacker has no use for.
    """

    name: str
    recovery: Recovery = AsGiven()  # noqa: RUF009
    strategy: QueryStrategy[Any] = Knockoff()  # noqa: RUF009
    learner: Learner = Learner()
    copies: int = 1
    accounts: int = 1
    probes: int = 0
    privileged: bool = False
    online: Sees | None = None
    reshape: Any = None
    own: int = 0

    def __post_init__(self) -> None:
        """Check the copies, and that an online attacker is nothing else."""
        if self.copies < 1 or self.probes < 0 or self.own < 0:
            raise ValueError(
                f"copies is {self.copies}, probes {self.probes} and own {self.own}: must be at least 1, 0 and 0"
            )
        if self.accounts < 1:
            raise ValueError(f"accounts is {self.accounts}: must be at least 1")
        if self.reshape is not None and not isinstance(self.reshape, Reshape):
            raise ValueError(f"reshape is {self.reshape!r}: must have applies_to and __call__, as Centred() has")
        if self.online not in (None, *get_args(Sees)):
            raise ValueError(f"online is {self.online!r}: must be one of {', '.join(get_args(Sees))}, or None")
        parts = (self.recovery, self.strategy, self.learner, self.copies, self.accounts, self.probes)
        changed = parts != (AsGiven(), Knockoff(), Learner(), 1, 1, 0) or self.reshape is not None or self.own
        if self.online is not None and changed:
            raise ValueError(f"online is {self.online!r}: must be None where another part is not the default")

    @property
    def batches(self) -> bool:
        """Whether its stolen models may be trained together, as one program."""
        return self.online is None and self.learner == Learner()

    @property
    def naive(self) -> bool:
        """Whether it takes responses, or their labels, for the victim's: it would do the same without a defense."""
        believes = isinstance(self.recovery, AsGiven | HardLabel | NoResponses)
        queries = self.copies == self.accounts == 1 and self.strategy == Knockoff() and self.online is None
        return believes and queries and not self.learner.reads_unlabelled

    @property
    def alone(self) -> bool:
        """Whether it learns from images of its own and no response."""
        return self.own > 0 and isinstance(self.recovery, NoResponses)

    def identity(self) -> dict[str, Any]:
        """Name and parts, as a record has them."""
        parts = {
            "recovery": self.recovery,
            "strategy": self.strategy,
            "copies": self.copies,
            "probes": self.probes,
        }
        if self.accounts > 1:
            parts["accounts"] = self.accounts
        if self.online is not None:
            parts["online"] = self.online
        if self.reshape is not None:
            parts["reshape"] = self.reshape
        if self.own:
            parts["own"] = self.own
        told = {"privileged": True} if self.privileged else {}
        described = {name: describe(part, where=name) for name, part in parts.items()}
        return {"name": self.name, "learner": self.learner.identity(), **described, **told}


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
ACCOUNTS = Attacker("100 accounts", accounts=100)
INFERENCE = Attacker("defense inference", DefenseInference(), probes=100)
TEMPERED = Attacker("temperature 100", learner=Learner(Tempered()))
E3 = Attacker("E3", learner=Learner(Tempered(), adapted=100))
RESHAPED = Attacker("plain, pool reshaped", reshape=Centred())
NEIGHBOURS_RESHAPED = Attacker("neighbours, pool reshaped", Neighbours(), probes=100, reshape=Centred())
KNOWN_WEIGHTS = Attacker("inversion, weights known", KnownWeightsInversion(), privileged=True)
OWN_ALONE = Attacker("own images alone", NoResponses(), own=10, privileged=True)
CONSISTENT = Attacker("consistent", Consistent())
COPY_TEST = Attacker("copy test", CopyTest(), NearCopies())
COMPLEMENTARY = Attacker("complementary", HardLabel(), learner=Learner(MisinformationLoss()))
PASSING_KNOWN = Attacker("passing known", PassingKnown(), privileged=True)

STANDARD = AttackerSet(
    "standard",
    "2026.12",
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
        ACCOUNTS,
        INFERENCE,
        TEMPERED,
        RESHAPED,
        NEIGHBOURS_RESHAPED,
    ),
)
"""The attackers that a claim about a defense must stand against.

None has labelled images of its own, or is told the defender's secrets. Those with a reshaped pool know that the victim
reads centred shapes. "Defense inference" is told nothing; those that invert, look up or compare are told which defense
is there. `E3` adapts to the test images, and is for an evaluation that allows it.
"""

OWN_IMAGES = AttackerSet(
    "own images",
    "2026.12",
    (
        OWN_ALONE,
        Attacker("plain, own images", own=10),
        Attacker("defense inference, own images", DefenseInference(), probes=100, own=10),
        Attacker("neighbours, own images", Neighbours(), probes=100, own=10),
    ),
)
"""Attackers with ten labelled images of their own, `evaluate(…, own=…)`, and what these give alone."""

_LOOKED_UP = Attacker("partial Bayes", PartialBayes(samples=200_000))
QUICK = AttackerSet("quick", "2026.12", (PLAIN, HARD_LABEL, INVERSION, _LOOKED_UP, NEIGHBOURS, ACCOUNTS))
"""Those of `STANDARD` that cost little more than the plain attacker: for a laptop, not for a claim."""
