"""Data-free stealing: exact budgets, one trace, nothing lost to a failure, and clones that beat chance."""

import dataclasses

import jax
import numpy as np
import pytest

import smallworld
from pp_jax import MAD, BlackBox, TopK, attacks, evaluate, metrics, models
from pp_jax.attacks import data_free
from pp_jax.evaluation import Attacker
from pp_jax.serving.answers import PartlyAnswered
from pp_jax.training import Recipe, fit
from support import Linear, blobs, linear_logits, linear_params

SHAPE = (8, 8, 1)
KEY = jax.random.key(0)
VICTIM = linear_params(jax.random.key(1), 64, 4)
GENERATOR = models.Generator(latent=4, width=2, last_norm="learned")


class Counted(Linear):
    """A linear clone that counts how often it is traced."""

    def __init__(self):
        super().__init__(4)
        self.traces = 0

    def train(self, params, images):
        """Logits of a batch."""
        self.traces += 1
        return super().train(params, images)


NETWORK = Counted()
SMALL = {"generator": GENERATOR, "batch_size": 4, "memory": 50}
ZEROTH = attacks.maze(NETWORK, 100, **SMALL, clone_steps=2, replay_steps=1)
TWO = attacks.disguide(NETWORK, 30, **SMALL)


def _box(defense=None):
    return BlackBox(linear_logits, VICTIM, *([] if defense is None else [defense]))


class Api:
    """A victim that counts what it is asked, and that fails when its queries are used up."""

    def __init__(self, most=10**9, *, part=0, error=OSError):
        self.api, self.most, self.part, self.error, self.sizes = _box().api(), most, part, error, []

    def __call__(self, images):
        if sum(self.sizes) + len(images) > self.most:
            if not self.part:
                raise self.error
            self.sizes.append(self.part)
            raise PartlyAnswered(np.asarray(self.api(images))[: self.part], "cut off")
        self.sizes.append(len(images))
        return self.api(images)


def _steal(method, api, **options):
    return attacks.steal(KEY, method, api, image_shape=SHAPE, **options)


def _same(one, other):
    for a, b in zip(one.clones, other.clones, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("method", "per_round"),
    [pytest.param(ZEROTH, 4 * 12, marks=pytest.mark.slow), (TWO, 4)],
    ids=["zeroth order", "two clones"],
)
def test_exactly_the_budget_is_asked_and_one_trace_serves_all_rounds(method, per_round):
    api, told = Api(), []
    theft = _steal(method, api, on_round=lambda theft: told.append(theft.queries))
    assert (method.queries, theft.queries, theft.spent, sum(api.sizes)) == (per_round, *[method.budget] * 3)
    assert len(told) == method.rounds == -(-method.budget // per_round)
    assert api.sizes[0] == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(theft.clones))
    traces = NETWORK.traces
    _same(theft, _steal(method, Api()))
    assert NETWORK.traces == traces
    np.testing.assert_allclose(theft.predict(blobs(0, 5, side=8)[0]).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("part", [0, 7])
def test_what_was_paid_for_before_a_failure_is_kept_and_never_paid_for_again(part):
    whole, failing = _steal(ZEROTH, Api()), Api(60, part=part)
    with pytest.raises(attacks.QueriesFailed, match=r"of 100 queries were answered: .* so_far=error\.theft") as caught:
        _steal(ZEROTH, failing)
    theft = caught.value.theft
    assert theft.queries == sum(failing.sizes) == 48 + part
    assert caught.value.transfer.queries == part
    assert caught.value.spent == 48 + 48
    api = Api()
    again = _steal(ZEROTH, api, so_far=theft)
    assert sum(api.sizes) == 100 - theft.queries
    assert again.queries == 100
    _same(whole, again)


def test_the_keyboard_keeps_it_too_and_a_callback_may_fail():
    with pytest.raises(KeyboardInterrupt) as caught:
        _steal(ZEROTH, Api(60, error=KeyboardInterrupt))
    assert isinstance(caught.value, attacks.TheftStopped)
    assert caught.value.theft.queries == 48

    def full(theft):
        raise OSError("no space")

    with pytest.raises(attacks.TheftFailed, match="OSError: no space") as failed:
        _steal(ZEROTH, Api(), on_round=full)
    assert failed.value.theft.queries == 48


def test_labels_are_refused_after_one_query_where_probabilities_are_compared():
    asked = []

    def labels(images):
        asked.append(len(images))
        return np.asarray(_box().api()(images)).argmax(1)

    for method in (ZEROTH, TWO, dataclasses.replace(ZEROTH, guide=TWO.guide, clones=2, loss=TWO.loss)):
        assert not method.labels
        with pytest.raises(
            attacks.TheftFailed, match=r"the API answers class indices: .* write dfms_hl\(…\)"
        ) as caught:
            _steal(method, labels)
        assert "\n" not in str(caught.value)
    assert asked == [1, 1, 1]
    assert attacks.disguide(NETWORK, 10, hard_labels=True).labels
    assert attacks.dfms_hl(NETWORK, 10).labels
    assert attacks.ideal(NETWORK, 10).labels


@pytest.mark.slow
def test_class_indices_teach_what_the_argmax_of_posteriors_does():
    hard = attacks.disguide(NETWORK, 10, hard_labels=True, **SMALL)
    _same(_steal(hard, lambda images: np.asarray(_box().api()(images)).argmax(1)), _steal(hard, Api()))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda images: np.full((len(images), 3), 1 / 3), "the API answers 3 classes: must be 4, the outputs of"),
        (lambda images: None, "the API answered None"),
        (lambda images: np.full((len(images), 4), np.nan), "the API's answers must be finite: 1 of 1"),
    ],
)
def test_what_is_no_response_is_refused_after_one_query(answer, message):
    with pytest.raises(attacks.TheftFailed, match=message) as caught:
        _steal(ZEROTH, answer)
    assert caught.value.spent == 1


@pytest.mark.slow
@pytest.mark.parametrize("labels", [[-1], [4]])
def test_classes_that_the_network_lacks_are_refused(labels):
    hard = attacks.disguide(NETWORK, 10, hard_labels=True, **SMALL)
    with pytest.raises(attacks.TheftFailed, match="must be from 0 to 3, as the network has that many outputs"):
        _steal(hard, lambda images: np.resize(labels, len(images)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda api: attacks.steal(0, ZEROTH, api, image_shape=SHAPE), "key is 0: must be a random key"),
        (lambda api: attacks.steal(KEY, ZEROTH, api, image_shape=(6, 6, 1)), "with sides that 4 divides"),
        (
            lambda api: attacks.steal(KEY, attacks.dfme(models.lenet(4), 9), api, image_shape=SHAPE),
            "must be at least 16 pixels high and wide for LeNet",
        ),
        (
            lambda api: _steal(TWO, api, so_far=data_free.Theft(ZEROTH, ZEROTH.begin(KEY, SHAPE))),
            "so_far is the theft of another method or shape of images",
        ),
        (lambda api: attacks.dfme(NETWORK, 0), "budget must be a whole number of at least 1, not 0"),
        (lambda api: attacks.maze(NETWORK, 9, batch_size=1), "batch_size must be a whole number of at least 2, not 1"),
        (lambda api: attacks.disguide(NETWORK, 9, clones=1), "clones must be a whole number of at least 2, not 1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(call, message):
    api = Api()
    with pytest.raises(ValueError, match=message):
        call(api)
    assert api.sizes == []


def test_it_is_a_query_strategy_whose_answers_the_driver_keeps(tmp_path):
    pool, budget = np.zeros((1, *SHAPE), np.uint8), 60
    whole = attacks.collect(KEY, ZEROTH, pool, Api(), budget=budget)
    assert whole.queries == budget
    with pytest.raises(attacks.QueriesFailed):
        attacks.collect(KEY, ZEROTH, pool, Api(50, part=9), budget=budget, folder=tmp_path)
    api = Api()
    again = attacks.collect(KEY, ZEROTH, pool, api, budget=budget, folder=tmp_path)
    assert sum(api.sizes) == budget - 57
    np.testing.assert_array_equal(whole.images, again.images)


@pytest.mark.slow
def test_defended_responses_are_learned_from():
    mad = MAD(linear_logits, linear_params(jax.random.key(5), 64, 4), 0.5)
    for defense in (mad, TopK(1, renormalise=False)):
        theft = _steal(ZEROTH, _box(defense).api())
        assert theft.queries == 100
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(theft.clones))


def test_published_settings_are_the_defaults():
    maze, dfme = attacks.maze(NETWORK, 10**6), attacks.dfme(NETWORK, 10**6)
    assert (maze.batch_size, maze.clone_steps, maze.replay_steps, maze.queries) == (128, 5, 10, 128 * 15)
    assert (maze.guide.directions, maze.guide.step, maze.generator.latent) == (10, 1e-3, 100)
    assert (dfme.batch_size, dfme.clone_steps, dfme.guide.directions, dfme.queries) == (256, 5, 1, 256 * 6)
    assert (dfme.guide.step, dfme.generator.latent, dfme.learning.rate, dfme.making.rate) == (1e-3, 256, 0.1, 1e-4)
    disguide, ideal = attacks.disguide(NETWORK, 10**6), attacks.ideal(NETWORK, 25_000)
    assert (disguide.clones, disguide.replay_steps, disguide.memory, disguide.guide.diversity) == (2, 3, 10**6, 0.2)
    assert (ideal.queries, ideal.rounds, ideal.replay_steps, ideal.guide.rounds) == (250, 100, 50, 30)
    assert attacks.dfms_hl(NETWORK, 10).guide.diversity == 500
    tuned = data_free.for_small_budgets(maze)
    assert (tuned.batch_size, tuned.guide.step, tuned.guide.directions) == (64, 0.1, 10)


def _stolen(make, budget, **changes):
    """The test accuracy of a clone of a victim that tells four blobs apart."""
    images, labels = blobs(1, 400, side=8)
    victim = fit(KEY, Linear(4), images, labels, Recipe(epochs=10, batch_size=32, learning_rate=0.1))
    method = data_free.for_small_budgets(make(Linear(4), budget))
    method = dataclasses.replace(method, generator=models.Generator(16, 4, "learned"), batch_size=16, **changes)
    theft = _steal(method, BlackBox(linear_logits, victim).api())
    images, labels = blobs(3, 400, side=8)
    assert metrics.accuracy(metrics.predict(Linear(4), victim, images), labels) > 0.95
    return metrics.accuracy(theft.predict(images), labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "budget", "changes"),
    [
        (attacks.maze, 6000, {}),
        (attacks.dfme, 6000, {}),
        (attacks.dfms_hl, 3000, {}),
        (attacks.disguide, 2000, {}),
        (attacks.ideal, 2000, {"replay_steps": 10}),
    ],
    ids=["maze", "dfme", "dfms_hl", "disguide", "ideal"],
)
def test_every_method_steals_a_small_victim_far_beyond_chance(make, budget, changes):
    assert _stolen(make, budget, **changes) > 0.6


@pytest.mark.slow
def test_an_attacker_of_an_evaluation_carries_it_and_trains_on_what_it_asked(tmp_path):
    world = smallworld.setup()
    method = data_free.for_small_budgets(attacks.dfms_hl(smallworld.network(), 300))
    method = dataclasses.replace(method, generator=models.Generator(8, 2, "none"), batch_size=16)
    report = evaluate(
        world.victim,
        [smallworld.Nothing()],
        attackers=[Attacker("DFMS-HL", strategy=method)],
        pool=world.pool,
        test=world.test,
        budget=300,
        seeds=(0,),
        network=world.network,
        recipe=world.recipe,
        runs_folder=tmp_path,
    )
    assert [row.records[0].result["queries"] for row in report.rows] == [300, 300]
    undefended, nothing = (row.attacks["DFMS-HL"][0] for row in report.rows)
    assert 0 <= nothing <= 100
    assert undefended > 30
