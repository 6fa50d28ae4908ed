"""Every input that once broke a reader, and the fuzzer's seeds, end in a value or in one error; no fuzzer is needed."""

from pathlib import Path

import pytest

from fuzz import bounds
from fuzz.targets import TARGETS

CASES = Path(__file__).parent / "cases"


@pytest.fixture(scope="module")
def watch():
    """What finds faults; counts memory while it lives."""
    with bounds.Watch() as watch:
        yield watch


@pytest.mark.parametrize("name", TARGETS)
def test_every_case_ends_in_a_value_or_in_one_error(tmp_path, watch, name):
    target = TARGETS[name]
    inputs = {f"seed {number}": data for number, data in enumerate(target.seeds())}
    inputs |= {path.name: path.read_bytes() for path in sorted((CASES / name).glob("*"))}
    target.warm_up(tmp_path / "first")
    faults = {}
    for number, (case, data) in enumerate(inputs.items()):
        (tmp_path / str(number)).mkdir()
        faults[case] = watch.fault(target.read, target.refusals, data, tmp_path / str(number))
    assert not {case: fault for case, fault in faults.items() if fault is not None}


def test_every_folder_of_cases_belongs_to_a_target():
    assert {path.name for path in CASES.iterdir()} <= {*TARGETS}
