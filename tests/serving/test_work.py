"""Proof of work: what is solved is accepted, and nothing else."""

import pytest

from pp_jax.serving.work import solved, worked


@pytest.mark.parametrize("bits", [0, 1, 9])
def test_what_is_solved_is_accepted_for_its_own_challenge(bits):
    solution = solved(f"{bits}:abc")
    assert worked("abc", solution, bits)
    assert not worked("abc", solution, 60)


@pytest.mark.parametrize("puzzle", ["x:abc", "64:abc", "33:abc", "٣:abc", "-1:abc", "9" * 30 + ":abc", ""])
def test_a_puzzle_that_cannot_be_solved_is_refused(puzzle):
    with pytest.raises(ValueError, match="the server asks for work that is not done"):
        solved(puzzle)
