"""Budgets: exact to the image, durable, for one account and for all, in windows that never go back."""

import os
import signal
import subprocess
import sys

import pytest

import servers
from pp_jax.service.ledger import EVERYBODY, Charged, Limits, Refused, SQLiteLedger


class Clock:
    """Seconds that a test sets."""

    now = 1000.0

    def __call__(self):
        return self.now


def test_a_budget_is_spent_to_the_image_and_no_further(tmp_path):
    ledger = SQLiteLedger(tmp_path / "l.sqlite")
    limits = Limits(total=10)
    assert isinstance(ledger.charge("a", 7, limits), Charged)
    refused = ledger.charge("a", 4, limits)
    assert refused.retry_after is None
    assert refused.reason == "3 of the 10 images of the account's budget are left, and 4 were asked"
    assert isinstance(ledger.charge("a", 3, limits), Charged)
    assert ledger.spent("a") == 10
    assert isinstance(ledger.charge("b", 10, limits), Charged)
    assert ledger.spent(EVERYBODY) == 20


def test_everybody_together_has_a_budget(tmp_path):
    ledger = SQLiteLedger(tmp_path / "l.sqlite")
    limits = Limits(everybody=10)
    assert isinstance(ledger.charge("a", 6, limits), Charged)
    refused = ledger.charge("b", 5, limits)
    assert refused.reason == "the service's budget does not allow 5 more images"  # not how many others have had
    assert ledger.spent("b") == 0


def test_a_rate_is_free_again_in_the_next_window_and_says_when(tmp_path):
    clock = Clock()
    ledger = SQLiteLedger(tmp_path / "l.sqlite", clock)
    limits = Limits(rate=5, window_s=60)
    assert isinstance(ledger.charge("a", 5, limits), Charged)
    refused = ledger.charge("a", 1, limits)
    clock.now += refused.retry_after
    assert refused.retry_after <= 60
    assert isinstance(ledger.charge("a", 1, limits), Charged)
    assert ledger.charge("a", 6, limits).retry_after is None  # more than any window has


def test_a_clock_that_goes_back_frees_nothing(tmp_path):
    clock = Clock()
    ledger = SQLiteLedger(tmp_path / "l.sqlite", clock)
    limits = Limits(rate=5, window_s=60)
    assert isinstance(ledger.charge("a", 5, limits), Charged)
    clock.now -= 500
    assert isinstance(ledger.charge("a", 1, limits), Refused)
    ledger.close()
    assert isinstance(SQLiteLedger(tmp_path / "l.sqlite", clock).charge("a", 1, limits), Refused)


def test_what_is_given_back_can_be_spent_and_never_more(tmp_path):
    ledger = SQLiteLedger(tmp_path / "l.sqlite")
    limits = Limits(total=10)
    charged = ledger.charge("a", 4, limits)
    ledger.refund(charged)
    assert (ledger.spent("a"), ledger.spent(EVERYBODY)) == (0, 0)
    ledger.refund(charged)
    assert (ledger.spent("a"), ledger.spent(EVERYBODY)) == (0, 0)


def test_what_is_given_back_later_is_given_back_to_its_own_window(tmp_path):
    clock = Clock()
    ledger = SQLiteLedger(tmp_path / "l.sqlite", clock)
    limits = Limits(rate=5, window_s=60)
    late = ledger.charge("a", 5, limits)
    clock.now += 60
    assert isinstance(ledger.charge("a", 5, limits), Charged)
    ledger.refund(late)
    assert isinstance(ledger.charge("a", 1, limits), Refused)


def test_memories_are_kept(tmp_path):
    ledger = SQLiteLedger(tmp_path / "l.sqlite")
    assert ledger.kept("a") is None
    ledger.keep({"a": b"\x00one", "b": b"b"})
    ledger.keep({"a": b"\x00two"})
    ledger.close()
    assert SQLiteLedger(tmp_path / "l.sqlite").kept("a") == b"\x00two"


def test_threads_and_a_second_process_share_one_budget(tmp_path):
    ledgers = [SQLiteLedger(tmp_path / "l.sqlite") for _ in range(2)]

    assert servers.granted_at_once(ledgers, "a", images=3, limits=Limits(total=100)) == 33
    assert ledgers[0].spent("a") == 99


_SPEND = """
import sys
from pathlib import Path
from pp_jax.service.ledger import Charged, Limits, SQLiteLedger
ledger = SQLiteLedger(Path(sys.argv[1]))
while isinstance(ledger.charge("a", 1, Limits()), Charged):
    print("answered", flush=True)
"""


def test_a_process_that_is_killed_gives_nothing_back(tmp_path):
    before = 0
    for round_ in range(3):
        child = subprocess.Popen([sys.executable, "-c", _SPEND, tmp_path / "l.sqlite"], stdout=subprocess.PIPE)
        answered = [child.stdout.readline() for _ in range(5 + 7 * round_)]
        os.kill(child.pid, signal.SIGKILL)
        answered += child.communicate()[0].splitlines()
        spent = SQLiteLedger(tmp_path / "l.sqlite").spent("a") - before
        assert len(answered) <= spent <= len(answered) + 1
        before += spent


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and not a data base at all\n" * 100)
    with pytest.raises(ValueError, match="cannot be used"):
        SQLiteLedger(path)
    assert path.read_text().startswith("these are my notes")
