"""Entries: one class says how it is called, made, turned and published."""

import jax
import pytest

import smallworld as small
from pp_jax import defenses
from pp_jax.defenses import GRAD2, MAD, ModelGuardW, RandomNoise, ReverseSigmoid, Rounding, Top1, chain
from pp_jax.defenses.cards import Card, Carded, presumed
from pp_jax.evaluation import Entry, runs
from pp_jax.solvers import MinInner

CLASSES = [
    value for name in defenses.__all__
    if isinstance(value := getattr(defenses, name), type) and callable(value) and "random" in dir(value)
]  # fmt: skip


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_defense_has_a_card(kind):
    assert isinstance(kind, Carded)
    assert isinstance(kind.card, Card)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry(MAD), "MAD, ε = 0.99"),
        (Entry(MAD, epsilon=0.5, keep_argmax=True), "MAD-argmax, ε = 0.5"),
        (Entry(ModelGuardW), "ModelGuard-W, ε = 1"),
        (Entry(ReverseSigmoid, beta=0.6), "reverse sigmoid, β = 0.6, γ = 0.2"),
        (Entry(Top1()), "top-1"),
        (Entry(chain()), "no defense"),
        (Entry(MAD, label="mine", epsilon=1.0), "mine, ε = 1"),
        (Entry(small.Flatten(0.25)), "Flatten, weight = 0.25"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_entry_in_words(entry, text):
    assert entry.text() == text


def test_a_strength_is_turned_and_published_settings_are_known():
    assert Entry(RandomNoise, radius=3.0).at(5.0).parameters == {"radius": 5.0}
    assert Entry(GRAD2, epsilon=0.1).published().parameters == {"epsilon": 0.5}
    assert Entry(Rounding, decimals=1).published() is None
    with pytest.raises(ValueError, match="no strength"):
        Entry(Top1).at(1.0)


def test_content_is_what_tells_entries_apart():
    content = [Entry(MAD, solver=solver).identity()["content"] for solver in (None, MinInner(), MinInner(True))]
    assert len(set(content)) == 3
    assert Entry(MAD).identity() == Entry(MAD, epsilon=0.99).identity()


def test_surrogates_are_of_the_seed_and_shared_by_it():
    one, other = (runs.deploy(small.setup(), Entry(MAD), seed).box.defense.surrogate for seed in (0, 1))
    again = runs.deploy(small.setup(), Entry(GRAD2, surrogate=defenses.Surrogate()), 0).box.defense.surrogate
    assert not all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (one, again)), strict=True))


def test_an_attacker_presumes_the_rule_without_the_secrets():
    at = runs.deploy(small.setup(), Entry(MAD, epsilon=0.7), 0)
    guess = presumed(at.box.defense, jax.random.key(5), small.network(), (8, 8, 1))
    assert guess.epsilon == 0.7
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (guess.surrogate, at.surrogate[1])), strict=True))
    assert presumed(defenses.ModelGuardS(1.0, 4), jax.random.key(0), small.network(), (8, 8, 1)) is None
    linked = chain(Top1(), at.box.defense)
    assert presumed(linked, jax.random.key(0), small.network(), (8, 8, 1)).defenses[0] == Top1()


@pytest.mark.parametrize("kind", ["partial", "trained", "distilled"])
def test_a_trained_surrogate_is_trained_once(kind, tmp_path, monkeypatch):
    surrogate = defenses.Surrogate(kind, epochs=1, partial_size=64)
    setup = small.setup(kept=tmp_path)
    first = runs.deploy(setup, Entry(MAD, surrogate=surrogate), 0).box.defense.surrogate
    monkeypatch.setattr("pp_jax.defenses.surrogates.fit", lambda *_: pytest.fail("trained again"))
    again = runs.deploy(setup, Entry(MAD, surrogate=surrogate), 0).box.defense.surrogate
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (first, again)), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Entry(Top1(), epsilon=1), "ready"),
        (lambda: Entry(3), "int"),
        (lambda: defenses.Surrogate("best"), "must be one of random"),
        (lambda: runs.deploy(small.setup(), Entry(MAD, epsilon=3.0), 0), "3"),
        (lambda: runs.deploy(small.setup(), Entry(MAD, keep_argmax=True, solver=MinInner()), 0), "not both"),
        (lambda: runs.deploy(small.setup(), Entry(Rounding), 0), "cannot be made"),
        (lambda: runs.deploy(small.setup(), Entry(defenses.EDM), 0), "outliers is None"),
    ],
)
def test_bad_entries_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
