"""Defense inference: an attacker who is told nothing first tells which defense it faces, then undoes that one."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from pp_jax._checks import as_array, as_transfer, check_count, check_random_key, is_whole
from pp_jax.recovery import imagining, telling
from pp_jax.recovery.candidates import CANDIDATES, Candidate, Own
from pp_jax.recovery.knowledge import Knowledge, keys
from pp_jax.recovery.traits import class_distances, traits
from pp_jax.types import TransferSet


class Inferred(NamedTuple):
    """What an attacker takes a defense for.

    Attributes:
        candidate: the one inferred.
        defense: as the attacker would build it: its recovery's `presumed`.
        strength: of it.
        names: of the defenses on the list, each once.
        probabilities: of these, as far as the simulated sets tell, (len(names),).
    """

    candidate: Candidate
    defense: Any
    strength: float
    names: tuple[str, ...]
    probabilities: np.ndarray


def infer_defense(
    key: jax.Array,
    transfer: TransferSet,
    network: Any,
    *,
    candidates: tuple[Candidate, ...] = CANDIDATES,
    sets: int = 64,
    size: int = 500,
) -> Inferred:
    """Tell from the responses alone which of some defenses they went through, and how strong it is.

    Every candidate is simulated on imagined posteriors (`imagining.imagined`), with strengths drawn from its range and
    the attacker's own surrogate and pairs in place of the defender's. A small classifier learns from the traits of the
    sets (`traits`) which candidate made them, and where in its range the strength was. The real responses are cut into
    sets of the same size; their log-probabilities are averaged.

    One of the candidates is always named, the likeliest: a defense that is not on the list is taken for one that is.

    Args:
        key: randomness of the simulation and of the classifier.
        transfer: images and responses, at least two.
        network: the attacker's architecture, for the surrogates of candidates that have one.
        candidates: what is considered; at least two.
        sets: simulated for each candidate, at least 2.
        size: responses in a set, at least 2; all of them where there are fewer.

    Raises:
        ValueError: for responses or images out of range, fewer than two of them or of the candidates, or a number
            below its least.

    Source: after the defense inference of the successor of D-DAE (TIFS 2025), known here from a summary; the traits,
        the imagined posteriors and the list are this library's.
    """
    check_random_key(key)
    transfer = as_transfer(transfer)
    check_count("sets", sets, low=2)
    check_count("size", size, low=2)
    if len(candidates) < 2 or len(transfer.images) < 2:
        raise ValueError(
            f"there are {len(candidates)} candidates and {len(transfer.images)} responses: must be at least 2 of each"
        )
    size = min(size, len(transfer.images))
    responses = np.asarray(transfer.answers, np.float32)
    classes, images = responses.shape[1], np.asarray(transfer.images)
    surrogate_key, learn_key, simulate_key = jax.random.split(key, 3)
    surrogate = network.init(surrogate_key, images.shape[1:])
    world = imagining.imagine(simulate_key, sets, size, classes)
    seen = [
        traits(one)
        for candidate in candidates
        for one in np.asarray(imagining.responded(candidate, network, surrogate, images[:size], world))
    ]
    labels = np.repeat(np.arange(len(candidates)), sets)
    everywhere = np.tile(world.places, len(candidates))
    teller = telling.learn(learn_key, np.stack(seen), labels, everywhere, candidates=len(candidates))
    parts = [responses[first : first + size] for first in range(0, len(responses) - size + 1, size)]
    scores, where = (np.asarray(each).mean(axis=0) for each in teller(np.stack([traits(part) for part in parts])))
    scores = np.asarray(jax.nn.softmax(scores))
    names = tuple(dict.fromkeys(candidate.name for candidate in candidates))
    shares = np.array([sum(s for s, c in zip(scores, candidates, strict=True) if c.name == name) for name in names])
    best = max(
        (index for index, c in enumerate(candidates) if c.name == names[int(shares.argmax())]), key=scores.__getitem__
    )
    chosen = candidates[best]
    strength = float(chosen.low + (chosen.high - chosen.low) * where[best])
    if chosen.read is not None:
        strength = chosen.read(responses, strength)
    own = Own(network, surrogate, jnp.asarray(likely_partners(responses)))
    return Inferred(chosen, chosen.make(own, strength), strength, names, shares)


def likely_partners(responses: Any) -> np.ndarray:
    """The pairs of classes that may have been exchanged at random: those of the most similar distributions, (K,).

    π = argmin Σ_k W₁(log ỹ_k, log ỹ_π(k))   over the responses; exchanged with probability one half, the two classes of
    a pair have one distribution.

    Args:
        responses: ỹ, (n, K).
    """
    apart = class_distances(np.asarray(responses, np.float32))
    np.fill_diagonal(apart, apart.sum() + 1)
    partners = linear_sum_assignment(apart + apart.T)[1]
    return np.where(partners[partners] == np.arange(len(partners)), partners, np.arange(len(partners)))


@dataclasses.dataclass(frozen=True)
class DefenseInference:
    """Tell which defense the responses went through (`infer_defense`), and use the recovery that fits it.

    The attacker is told nothing of the defense: `Knowledge.presumed`, `deployed` and `victim` are not looked at.

    Attributes:
        candidates: what is considered, with the recovery for each.
        sets: simulated for each candidate.
        size: responses in a set.
    """

    candidates: tuple[Candidate, ...] = CANDIDATES
    sets: int = 64
    size: int = 500

    def applies_to(self, defense: Any) -> bool:
        """To every defense."""
        del defense
        return True

    def __call__(self, key: jax.Array, transfer: TransferSet, *, knowledge: Knowledge) -> TransferSet:
        """Return what the inferred defense's recovery makes of the responses; labels as they are."""
        if np.ndim(transfer.answers) == 1 and is_whole(as_array(transfer.answers, "answers").dtype):
            return transfer  # An API of labels answered.
        own, _ = keys(key)
        found = infer_defense(
            jax.random.fold_in(own, 5), transfer, knowledge.network, candidates=self.candidates, sets=self.sets,
            size=self.size,
        )  # fmt: skip
        informed = dataclasses.replace(knowledge, presumed=found.defense, deployed=None, victim=None)
        return found.candidate.recovery(key, transfer, knowledge=informed)
