"""The example of the docs page runs, and says what it says it says."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "ownership.md"


@pytest.mark.slow
def test_the_example_claims_the_copy_and_nobody_else(capsys):
    (block,) = re.findall(r"<!-- run: claim\.py -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    names = {}
    exec(compile(block, "claim.py", "exec"), names)
    claim, rate, exact = capsys.readouterr().out.splitlines()
    assert claim.startswith("Claim(p_value=")
    assert names["mark"].verify(names["copy"]).holds(0.01)
    assert rate == "0.0"
    assert exact.startswith("True")
