"""Proof of work, both sides of it: a puzzle that takes 2^bits hashes to solve and one to check."""

import hashlib

CHALLENGE = "X-Work-Challenge"
"""Header of a refusal: the puzzle, `bits:challenge`."""
SOLUTION = "X-Work-Solution"
"""Header of the request that is sent again: a text t such that SHA-256(challenge + t) begins with so many zero bits."""
_MOST_BITS = 32


def worked(challenge: str, solution: str, bits: int) -> bool:
    """Whether SHA-256(challenge + solution) begins with so many zero bits; solutions have at most 64 characters."""
    if not 0 < len(solution) <= 64:
        return False
    return _leading(hashlib.sha256((challenge + solution).encode("utf-8", "replace")).digest(), bits)


def solved(puzzle: str) -> str:
    """A solution of a puzzle `bits:challenge`.

    Raises:
        ValueError: for a puzzle that cannot be read, or of more than 32 bits.
    """
    text, _, challenge = puzzle.partition(":")
    if not text.isascii() or not text.isdigit() or len(text) > 2 or int(text) > _MOST_BITS:
        raise ValueError(f"the server asks for work that is not done: {puzzle[:80]!r}")
    begun, bits, number = hashlib.sha256(challenge.encode()), int(text), 0
    while True:
        found = begun.copy()
        found.update(str(number).encode())
        if _leading(found.digest(), bits):
            return str(number)
        number += 1


def _leading(digest: bytes, bits: int) -> bool:
    """Whether a digest begins with so many zero bits."""
    return int.from_bytes(digest, "big") >> (256 - bits) == 0
