"""Active learning: rounds are as split, each is what the rule chooses for a substitute of all responses so far."""

import dataclasses

import jax
import numpy as np
import pytest

from pp_jax import attacks, training
from pp_jax.attacks import ActiveThief, army_of_thieves, collect, swift_thief
from pp_jax.attacks.acquisition import entropies
from pp_jax.attacks.stages import split
from pp_jax.training.predicting import predict
from support import Linear, blobs

POOL, LABELS = blobs(0, 90)
NETWORK, RECIPE, BUDGET = Linear(4), training.Recipe(3, 16, 0.5), 48
KEY = jax.random.key(0)
ENTROPY = ActiveThief(network=NETWORK, recipe=RECIPE, budget=BUDGET, rounds=3)
ROW = {image.tobytes(): row for row, image in enumerate(POOL)}
SHARP = np.random.default_rng(0).normal(size=(36, 4)).astype(np.float32)


def answer(images):
    """Posteriors that depend on the image alone."""
    odds = np.exp(3 * np.asarray(images).reshape(len(images), -1) @ SHARP)
    return odds / odds.sum(1, keepdims=True)


def rows_of(images):
    """Which images of the pool were queried, in order."""
    return [ROW[np.asarray(image).tobytes()] for image in images]


@dataclasses.dataclass(frozen=True)
class Noted:
    """Entropy, and what it was given."""

    seen: list
    needs_features = False

    def __call__(self, key, known, candidates, count):
        self.seen.append((known, candidates, count))
        return attacks.Entropy()(key, known, candidates, count)


def test_every_round_is_what_the_rule_chooses_for_a_substitute_of_all_responses_so_far():
    seen, sizes = [], []

    def api(images):
        sizes.append(len(images))
        return answer(images)

    attack = dataclasses.replace(ENTROPY, acquisition=Noted(seen), batch_size=10)
    taken = collect(KEY, attack, POOL, api, budget=BUDGET)
    ends = split(BUDGET, 3, 0.1, 0.2)
    rows = rows_of(taken.images)
    assert len(set(rows)) == BUDGET
    assert max(sizes) <= 10
    assert [len(known.answers) for known, _, _ in seen] == list(ends[:-1])
    for (known, candidates, count), first, last in zip(seen, ends, ends[1:], strict=False):
        np.testing.assert_array_equal(known.images, taken.images[:first])
        assert known.left == BUDGET - first
        assert sorted(rows_of(candidates)) == sorted(set(range(90)) - set(rows[:first]))
        uncertain = entropies(predict(NETWORK, known.members[0], candidates))
        expected = [rows_of(candidates)[i] for i in np.argsort(-uncertain, kind="stable")[:count]]
        assert rows[first:last] == expected


def test_uncertain_queries_are_nearer_to_the_victims_boundaries_than_random_ones():
    pool = np.random.default_rng(0).random((200, 2, 2, 1)).astype(np.float32)
    kernel = 8 * np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    api = lambda images: np.asarray(jax.nn.softmax(np.asarray(images).reshape(-1, 4) @ kernel))  # noqa: E731
    margins = lambda images: np.diff(np.sort(api(images))[:, -2:])  # noqa: E731
    attack = dataclasses.replace(ENTROPY, recipe=training.Recipe(20, 16, 1.0))
    chosen = collect(KEY, attack, pool, api, budget=BUDGET).images[split(BUDGET, 3, 0.1, 0.2)[0] :]
    assert margins(chosen).mean() < 0.7 * margins(pool).mean()


def test_a_round_looks_at_no_more_than_it_may():
    seen = []
    attack = dataclasses.replace(ENTROPY, acquisition=Noted(seen), considered=20)
    taken = collect(KEY, attack, POOL, answer, budget=BUDGET)
    assert [len(candidates) for _, candidates, _ in seen] == [20, 20, 20]
    assert len(set(rows_of(taken.images))) == BUDGET
    assert not np.array_equal(seen[0][1], seen[1][1])


def test_an_army_is_five_networks_that_choose_together():
    seen = []
    attack = dataclasses.replace(
        army_of_thieves(network=NETWORK, recipe=RECIPE, budget=20, rounds=1), acquisition=Noted(seen)
    )
    collect(KEY, attack, POOL, answer, budget=20)
    ((known, candidates, _),) = seen
    assert len(known.members) == 5
    apart = [predict(NETWORK, params, candidates) for params in known.members]
    np.testing.assert_allclose(known.posteriors(candidates), np.mean(apart, axis=0))
    assert np.ptp(apart, axis=0).max() > 1e-3
    assert army_of_thieves().rounds == 9
    assert army_of_thieves(budget=100).capacity(1000) == 100


@pytest.mark.parametrize("api", [answer, lambda images: answer(images).argmax(axis=1)], ids=["posteriors", "labels"])
def test_responses_may_be_posteriors_or_labels(api):
    assert collect(KEY, ENTROPY, POOL, api, budget=BUDGET).queries == BUDGET


def test_the_attackers_parts_fill_in_what_is_missing_and_nothing_else():
    full = ActiveThief().completed(network=NETWORK, recipe=RECIPE, budget=BUDGET)
    assert (full.network, full.recipe, full.budget) == (NETWORK, RECIPE, BUDGET)
    assert ENTROPY.completed(network=Linear(9), recipe=None, budget=9) == ENTROPY
    jacobian = attacks.jbda_tr(None, seed_size=5).completed(network=NETWORK, recipe=RECIPE, budget=1)
    assert jacobian.network == NETWORK
    assert jacobian.recipe != RECIPE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActiveThief(budget=12), "budget is 12: must be larger for 10 rounds"),
        (lambda: ActiveThief(rounds=0), "rounds must be"),
        (lambda: ActiveThief(considered=0), "considered must be"),
        (lambda: ActiveThief(seed_share=1.0), "seed_share is 1.0: must be at least 0 and below 1"),
        (lambda: ActiveThief(members=2), "members is 2: must be 1 with a validation_share or a loss"),
        (lambda: ActiveThief().init(KEY, POOL), "network is None: must be given, ActiveThief"),
        (lambda: ENTROPY.init(KEY, POOL[:40]), "the pool must hold 48 images, as many as the budget, not 40"),
        (
            lambda: swift_thief(network=NETWORK, recipe=RECIPE, budget=BUDGET).init(KEY, POOL),
            "RareClasses needs a network with features",
        ),
        (lambda: collect(KEY, ENTROPY, POOL, pytest.fail, budget=60), "must be good for the budget of 60 queries"),
        (lambda: collect(KEY, ENTROPY, POOL[:40], pytest.fail, budget=48), "holds 40 images"),
    ],
)
def test_bad_numbers_are_refused_in_one_line_before_a_query(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
