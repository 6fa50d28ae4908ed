"""One attack on one defense: a row with the plain attacker, one line for what is wrong."""

import pytest

from experiments import steal
from pp_jax import records


@pytest.mark.slow
def test_steal_shows_the_attacker_beside_the_plain_one(command, session_runs):
    text = command(steal, "--defense", "Top1", "--attacker", "hard label")
    assert "no defense" in text
    found = records.load_all(session_runs / "steal", kind="tradeoff")
    assert {record.config["attack"]["name"] for record in found} == {"plain", "hard label"}
    assert all(record.result["queries"] == 160 for record in found)
    stamps = {record.path: record.path.stat().st_mtime_ns for record in found}
    command(steal, "--defense", "Top1", "--attacker", "hard label")
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps  # found again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--attack.budget", "0"), "budget is 0: must be at least 1 and at most 400"),
        (("--attack.budget", "401"), "budget is 401: must be at least 1 and at most 400"),
        (("--attack.pool", "nothing"), "no set of that name is prepared"),
        (("--attack.pool", "mnist"), "python -m pp_jax.data prepare mnist"),
        (("--defense", "MADD(epsilon=0.5)"), "did you mean MAD?"),
        (("--attacker", "hard lable"), "did you mean"),
        (("--defense", "MAD("), "must be Name"),
    ],
)
def test_bad_input_is_one_error_before_a_victim_is_trained(command, options, message, tmp_path):
    with pytest.raises(SystemExit) as stop:
        command(steal, *options, "--runs", tmp_path / "runs")
    assert message in str(stop.value)
    assert str(stop.value).startswith("error: ")
    assert "\n" not in str(stop.value)
    assert not list(tmp_path.rglob("*"))
