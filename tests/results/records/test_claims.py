"""Claims: one process at a time has a cell, and whoever dies has none."""

import errno
import fcntl
import os
import threading

import pytest

from pp_jax import records
from processes import finish, python

CELL = {"kind": "k", "result": {"x": 1}, "timings": {}}


def test_a_cell_has_one_claim_and_another_cell_has_its_own(tmp_path):
    with records.claim(tmp_path, {"seed": 0}) as mine:
        assert mine
        with records.claim(tmp_path, {"seed": 0.0}) as again:
            assert not again
        with records.claim(tmp_path, {"seed": 1}) as other:
            assert other
    with records.claim(tmp_path, {"seed": 0}) as mine:
        assert mine


def test_a_claim_is_released_by_an_error_and_is_no_record(tmp_path):
    with pytest.raises(ZeroDivisionError), records.claim(tmp_path, {}):
        raise ZeroDivisionError
    with records.claim(tmp_path, {}) as mine:
        assert mine
        assert records.load_all(tmp_path) == []


def test_waiting_ends_when_the_claim_is_free(tmp_path):
    order = []

    def wait():
        with records.claim(tmp_path, {}, wait=True) as mine:
            order.append(mine)

    with records.claim(tmp_path, {}):
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.3)
        order.append("released")
    waiting.join(10)
    assert order == ["released", True]


def test_once_computes_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        records.write(tmp_path, **CELL, config={"seed": 0})

    first, second = (records.once(tmp_path, {"seed": 0}, compute) for _ in range(2))
    assert first == second == records.find(tmp_path, {"seed": 0})
    assert len(calls) == 1


def test_once_leaves_a_claimed_cell_alone(tmp_path):
    with records.claim(tmp_path, {"seed": 0}):
        assert records.once(tmp_path, {"seed": 0}, lambda: pytest.fail("computed a claimed cell")) is None


def test_once_looks_again_when_it_has_the_claim(tmp_path, monkeypatch):
    # Somebody finishes the cell between the first look and the claim.
    claim = records.claims.claim

    def late(folder, config, *, wait):
        records.write(folder, **CELL, config=config)
        return claim(folder, config, wait=wait)

    monkeypatch.setattr(records.claims, "claim", late)
    assert records.once(tmp_path, {}, lambda: pytest.fail("computed a finished cell")).result == CELL["result"]


def test_once_refuses_work_that_writes_no_record(tmp_path):
    with pytest.raises(ValueError, match=f"compute wrote no record {tmp_path}/{records.key({})}.json: .*records.write"):
        records.once(tmp_path, {}, lambda: None)


def test_what_cannot_be_claimed_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", "/proc/nowhere"):
        with (
            pytest.raises(OSError, match=f"cannot claim {folder}/.claims/.*must be writable"),
            records.claim(folder, {}),
        ):
            pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_an_error_and_never_a_guess(tmp_path, monkeypatch, code):
    def flock(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="on a file system with locks") as caught, records.claim(tmp_path, {}):
        pass
    assert caught.value.errno == code


# The user without rights reaches the folder as the one it is in, since those above are closed to it.
READ_ONLY = """
import pp_jax._files
os.chdir(FOLDER)
os.chmod(".", 0o555)
if os.geteuid() == 0:
    os.seteuid(65534)
assert records.once(".", {"seed": 0}, lambda: None).result == {"x": 1}
for ask in (lambda: records.once(".", {"seed": 1}, lambda: None), lambda: records.check_writable(".")):
    try:
        ask()
    except OSError as error:
        print(error)
"""


def test_a_read_only_folder_is_read_and_named(tmp_path):
    records.write(tmp_path, **CELL, config={"seed": 0}).chmod(0o444)
    ((claim, probe),) = finish(python(READ_ONLY, tmp_path))
    tmp_path.chmod(0o755)
    assert "cannot claim .claims/" in claim
    assert "cannot write probe-" in probe
    assert "Permission denied" in claim
    assert "must be writable" in claim


HOLD = """
with records.claim(FOLDER, {"seed": 0}) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_the_claim_of_a_killed_process_is_free_at_once_and_its_cell_is_redone(tmp_path):
    holder = python(HOLD, tmp_path)
    assert holder.stdout.readline() == "True\n"
    with records.claim(tmp_path, {"seed": 0}) as mine:
        assert not mine
    holder.kill()
    holder.communicate(timeout=60)
    redone = records.once(tmp_path, {"seed": 0}, lambda: records.write(tmp_path, **CELL, config={"seed": 0}))
    assert redone.result == CELL["result"]
