"""From options to a policy: thresholds are set once, and set again where anything that they depend on has changed."""

import dataclasses

import numpy as np
import pytest

import smallworld
from pp_jax.detection import makers, policy
from pp_jax.service import assembly, config
from pp_jax.service.known import Known
from scripts import prepare_stripes


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Options with a detector, and a victim."""
    folder = tmp_path_factory.mktemp("assembly")
    prepare_stripes(folder / "data")
    network = smallworld.models.mlp(4, hidden=(8,))
    params = network.init(smallworld.jax.random.key(0), (16, 16, 1))
    model = config.Model(dataset="stripes")
    chosen = config.Policy("label_mmd", ("pass", "throttle:2", "work:3", "block"), (0.2, 0.1, 0.05), 80, 40)
    options = config.Config(model, chosen, folder=folder / "run", data_dir=folder / "data")
    return options, assembly.Victim(network, params, assembly._model(options, 4, (16, 16, 1)))


def test_actions_are_made_from_their_texts(served):
    made = assembly.policy(*served)
    names = [type(action).__name__ for action in made.actions]
    assert names == ["Chain", "Throttled", "ProofOfWork", "Blocked"]
    assert (made.actions[1].seconds, made.actions[2].bits) == (2.0, 3)


def test_thresholds_are_set_once_and_again_when_the_options_change(served, monkeypatch):
    options, victim = served
    first = assembly.policy(options, victim)
    tried = []
    monkeypatch.setattr(policy, "watch", lambda *args: tried.append(1) or np.zeros((40, 80)))
    again = assembly.policy(options, victim)
    assert tried == []
    np.testing.assert_array_equal(first.thresholds, again.thresholds)
    changed = dataclasses.replace(options, policy=dataclasses.replace(options.policy, queries=81))
    assembly.policy(changed, victim)
    assert tried == [1]


def test_too_few_queries_for_any_score_are_refused(served):
    options, victim = served
    short = dataclasses.replace(options, policy=dataclasses.replace(options.policy, queries=2))
    with pytest.raises(ValueError, match="queries is 2: must be more"):
        assembly.policy(short, victim)


def test_thresholds_of_something_else_or_broken_are_not_taken(tmp_path):
    images, labels = smallworld.stripes(0, 8)
    chosen = config.Policy("label_mmd", ("pass", "block"), (0.1,))
    params = {"w": np.ones(3)}
    known = Known(tmp_path / "t.json", chosen, images, labels, params, 1)
    assert known.read() is None
    known.write(np.array([0.5]))
    assert known.read() == (0.5,)
    others = [
        (dataclasses.replace(chosen, accounts=7), images, labels, params, 1),
        (chosen, images[::-1], labels, params, 1),
        (chosen, images, labels + 1, params, 1),
        (chosen, images, labels, {"w": np.zeros(3)}, 1),
        (chosen, images, labels, params, 2),
    ]
    assert [Known(tmp_path / "t.json", *other).read() for other in others] == [None] * 5
    (tmp_path / "t.json").write_text("[")
    assert known.read() is None


def test_the_secret_is_made_once_and_differs_by_purpose(served):
    options, _ = served
    first = assembly.secret_bytes(options, "a")
    assert assembly.secret_bytes(options, "a") == first != assembly.secret_bytes(options, "b")
    assert (options.folder / "secret").stat().st_mode & 0o077 == 0


def test_every_detector_is_offered(served):
    options, victim = served
    unknown = dataclasses.replace(options, policy=dataclasses.replace(options.policy, detector="nobody"))
    with pytest.raises(ValueError, match="there is no detector nobody") as caught:
        assembly.policy(unknown, victim)
    for maker in makers.MAKERS:
        assert maker.__name__ in str(caught.value)
