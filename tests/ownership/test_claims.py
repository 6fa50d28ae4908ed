"""False claims are counted as they are, and ranks make valid p-values of any mark."""

import dataclasses

import numpy as np
import pytest

import marked
from pp_jax.ownership import Claim, LedgerMark, calibrated, false_claim_rate


@dataclasses.dataclass(frozen=True)
class Telling:
    """A mark that reads its claim off the suspect."""

    p_values: tuple
    effects: tuple

    def verify(self, suspect, *, significance=0.01):
        del significance
        number = suspect(None)
        return Claim(self.p_values[number], self.effects[number], 5)


def _suspects(count):
    return [lambda _, number=number: number for number in range(count)]


def test_the_rate_and_its_bound():
    found = false_claim_rate(Telling((0.001, 0.5, 0.01, 0.2), (1.0, 2.0, 3.0, 4.0)), _suspects(4))
    assert found.rate == 0.5
    assert 0.5 < found.bound < 1
    assert [claim.effect for claim in found.claims] == [1.0, 2.0, 3.0, 4.0]
    assert false_claim_rate(Telling((0.5,) * 59, (0.0,) * 59), _suspects(59)).bound == pytest.approx(0.05, abs=0.001)


def test_a_claim_by_rank_takes_no_notice_of_the_marks_own_p_value():
    mark = Telling((0.9, *[0.001] * 99), (10.0, *range(-99, 0)))
    others = false_claim_rate(mark, _suspects(100)[1:]).claims
    assert calibrated(mark, _suspects(1)[0], others) == Claim(0.01, 10.0, 5)


@pytest.mark.slow
def test_a_marked_copy_ranks_above_independent_models():
    mark = LedgerMark(marked.ledger())
    innocent = false_claim_rate(mark, [marked.independent(seed) for seed in (3, 4)])
    assert innocent.rate == 0
    assert calibrated(mark, marked.stolen(), innocent.claims, significance=0.4).p_value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: false_claim_rate(Telling((), ()), []), "independent must be at least one model, not none"),
        (
            lambda: calibrated(Telling((), ()), None, [Claim(0.5, 0.0, 5)] * 20),
            "20 independent models give: p-values of at least 0.048, must reach 0.01; train 99 or ask for less",
        ),
    ],
)
def test_too_few_models_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_claim_holds_at_its_significance():
    assert Claim(0.01, 1.0, 3).holds(0.01)
    assert not Claim(np.nextafter(0.01, 1), 1.0, 3).holds(0.01)
