"""Recoveries that believe a part of the responses: which part, and to which defenses they apply."""

import jax
import numpy as np
import pytest

from pp_jax.defenses import MAD, KeyedSwap, ModelGuardS, ReverseSigmoid, Top1, chain, keyed_swap
from pp_jax.recovery import (
    AgreementFilter,
    AsGiven,
    ClassBalanced,
    DDAEPlus,
    HardLabel,
    Inversion,
    KnownWeightsInversion,
    MostConfident,
    Neighbours,
    PairRelabelling,
    PartialBayes,
    SelfTraining,
)
from pp_jax.recovery.selecting import most_certain
from pp_jax.solvers import MaxAngle, MinInner
from pp_jax.types import TransferSet
from support import given_logits

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
RESPONSES = RNG.dirichlet(np.ones(4), 60).astype(np.float32)
TRANSFER = TransferSet(np.arange(60 * 4, dtype=np.uint8).reshape(60, 2, 2, 1), RESPONSES)


def recovered(recovery, transfer=TRANSFER):
    """Without any knowledge: these need none."""
    return recovery(KEY, transfer, knowledge=None)


def test_the_plain_attacker_trains_on_what_it_was_given():
    assert recovered(AsGiven()) is TRANSFER


def test_hard_labels_are_the_first_largest_entries():
    tied = TransferSet(TRANSFER.images[:2], np.float32([[0.4, 0.4, 0.2], [0.0, 0.5, 0.5]]))
    assert recovered(HardLabel(), tied).answers.tolist() == [0, 1]


@pytest.mark.parametrize("recovery", [MostConfident(0.25), AgreementFilter(0.25)])
def test_what_is_kept_is_more_certain_than_what_is_not(recovery):
    kept = recovered(recovery)
    rows = [int(image[0, 0, 0]) // 4 for image in kept.images]
    assert len(rows) == 15
    assert rows == sorted(rows)
    others = sorted(set(range(60)) - set(rows))
    assert RESPONSES[rows].max(1).min() >= RESPONSES[others].max(1).max()


def test_of_responses_alike_the_first_are_kept():
    assert most_certain(np.full((8, 4), 0.25), share=0.5).tolist() == [0, 1, 2, 3]
    assert most_certain(RESPONSES[:3], share=1e-9).shape == (1,)


def test_no_class_is_kept_more_often_than_the_median_class():
    answers = np.eye(4, dtype=np.float32)[np.repeat([0, 1, 2, 3], [40, 10, 8, 2])]
    kept = recovered(ClassBalanced(), TRANSFER._replace(answers=answers)).answers
    assert np.bincount(kept.argmax(1), minlength=4).tolist() == [9, 9, 8, 2]


MADS = {
    "extreme": MAD(given_logits, None, 0.9),
    "argmax": MAD.argmax_preserving(given_logits, None, 0.9),
    "min inner": MAD(given_logits, None, 0.9, solver=MinInner()),
    "max angle": MAD(given_logits, None, 0.9, solver=MaxAngle()),
}
SWAP = KeyedSwap(None, keyed_swap.random_partners(KEY, 4))


@pytest.mark.parametrize(
    ("recovery", "applies"),
    [
        (Inversion(), {"extreme", "min inner"}),
        (KnownWeightsInversion(), {"extreme"}),
        (PartialBayes(), {*MADS, "top-1", "sigmoid", "swap"}),
        (DDAEPlus(), {*MADS, "top-1", "sigmoid", "swap"}),
        (Neighbours(), {"swap"}),
        (PairRelabelling(), {"swap"}),
        (SelfTraining(), {*MADS, "top-1", "sigmoid", "swap", "none", "memory"}),
        (HardLabel(), {*MADS, "top-1", "sigmoid", "swap", "none", "memory"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_recoveries_say_what_they_apply_to(recovery, applies):
    defenses = {
        **MADS, "top-1": Top1(), "sigmoid": ReverseSigmoid(1.0), "swap": SWAP, "none": chain(),
        "memory": ModelGuardS(1.0, 4),
    }  # fmt: skip
    assert {name for name, defense in defenses.items() if recovery.applies_to(defense)} == applies


@pytest.mark.parametrize("make", [lambda: MostConfident(0), lambda: AgreementFilter(1.5), lambda: SelfTraining(0)])
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()
