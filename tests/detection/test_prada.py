"""PRADA against the numbers of the published agent, and in bounded memory."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax.detection import Features, Prada

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "prada_shapiro.npz")


@jax.jit
def run(detector, features, labels):
    def step(state, row):
        feature, label = row
        state, score = detector.update(state, jnp.zeros((1, 1, 1)), jax.nn.one_hot(label, detector.classes), feature)
        return state, (score, state.thresholds, jnp.sum(state.members.seen))

    return jax.lax.scan(step, detector.init(), (features, labels))[1]


@pytest.mark.parametrize("kind", ["benign", "attack"])
def test_scores_thresholds_and_alarms_are_those_of_the_published_agent(kind):
    x, labels = GOLDEN[f"agent_{kind}/x"], GOLDEN[f"agent_{kind}/label"]
    w, flags = GOLDEN[f"agent_{kind}/W"], GOLDEN[f"agent_{kind}/flag"]
    detector = Prada(classes=4, size=16, view=Features(), capacity=512, window=512)
    score, thresholds, members = (np.asarray(out) for out in run(detector, jnp.asarray(x, jnp.float32), labels))
    tested = ~np.isnan(w)
    np.testing.assert_allclose(1 - score[tested], w[tested], atol=2e-5)
    wanted = GOLDEN[f"agent_{kind}/threshold"]
    np.testing.assert_allclose(thresholds[~np.isnan(wanted)], wanted[~np.isnan(wanted)], atol=1e-4)
    np.testing.assert_array_equal(members, GOLDEN[f"agent_{kind}/growing_set_size"])
    alarm = score > 1 - float(GOLDEN["agent_delta"])
    np.testing.assert_array_equal(alarm[tested], flags[tested] == 1)
    assert not np.isfinite(score[: np.argmax(tested)]).any()


def test_it_goes_on_when_its_memory_is_full():
    x, labels = GOLDEN["agent_benign/x"], GOLDEN["agent_benign/label"]
    detector = Prada(classes=4, size=16, view=Features(), capacity=8, window=128)
    score, _, _ = run(detector, jnp.asarray(x, jnp.float32), labels)
    assert np.isfinite(score[-1])
    assert not np.isnan(score).any()


def test_a_count_below_one_is_refused():
    with pytest.raises(ValueError, match="capacity must be a whole number of at least 1, not 0"):
        Prada(classes=4, size=16, capacity=0)
