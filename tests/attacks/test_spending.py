"""What was paid for is kept: whatever ends the queries, the answers are there, and none is asked for twice."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from pp_jax import RandomNoise
from pp_jax.attacks import (
    ActiveThief,
    AdaptiveKnockoff,
    Knockoff,
    QueriesFailed,
    QueriesStopped,
    Seeking,
    collect,
    jb_topk,
    online,
)
from pp_jax.attacks.rewards import Certainty, Diversity, Loss
from pp_jax.serving import PartlyAnswered, Recorded
from pp_jax.serving.blackbox import BlackBox, BudgetExhausted, Metered
from pp_jax.training import Recipe
from support import Linear, blobs, linear_logits, linear_params

POOL, LABELS = blobs(2, 90)
NETWORK = Linear(4)
SHORT = Recipe(epochs=1, batch_size=16)
BUDGET = 40
ATTACKS = {
    "knockoff": Knockoff(batch_size=7),
    "adaptive": AdaptiveKnockoff(LABELS, rewards=(Certainty(), Diversity(), Loss()), thief=NETWORK, batch_size=7),
    "jacobian": jb_topk(NETWORK, k=1, recipe=SHORT, seed_size=10, batch_size=7),
    "seeking": Seeking(NETWORK, SHORT, BUDGET, batch_size=7),
    "active": ActiveThief(network=NETWORK, recipe=SHORT, budget=BUDGET, rounds=2, batch_size=7),
}
WEIGHTS = np.random.default_rng(0).normal(size=(36, 4)).astype(np.float32)


def answer(images):
    """Posteriors that depend on the image alone."""
    scores = np.asarray(images).reshape(len(images), -1) @ WEIGHTS
    odds = np.exp(scores - scores.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


class Failing:
    """An API that goes wrong in one of its calls, in a way of its own, and counts the images of the others."""

    def __init__(self, wrong, call=3):
        self.wrong, self.call, self.calls, self.answered = wrong, call, 0, []

    def __call__(self, images):
        self.calls += 1
        if self.calls == self.call:
            return self.wrong(images)
        self.answered += [image.tobytes() for image in np.asarray(images)]
        return answer(images)


def raising(error):
    """An API that raises."""

    def wrong(images):
        raise error

    return wrong


WRONG = {
    "raises": (raising(ConnectionError("429 too many requests")), "ConnectionError: 429 too many requests"),
    "None": (lambda images: None, "the API answered None: must be an array"),
    "NaN": (lambda images: answer(images) * np.nan, "answers must be finite: 7 of 7 rows are not"),
    "logits": (lambda images: np.log(answer(images)) + 3, "must be probabilities in [0, 1], not in [-"),
    "percent": (lambda images: 100 * answer(images), "percent a division by 100"),
    "one fewer": (lambda images: answer(images)[1:], "the API must answer every image: 7 asked, 6 answered"),
    "one class more": (lambda images: np.c_[answer(images), answer(images)[:, :1]], "rows of shape (5,): must be (4,)"),
    "ragged": (lambda images: [[0.5, 0.5], [1.0]], "the API must answer rows of one length"),
    "text": (lambda images: ["cat"] * len(images), "must be numbers, (B, K)"),
}


def run(attack, api, **options):
    return collect(jax.random.key(0), ATTACKS[attack], POOL, api, budget=BUDGET, **options)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert [array.dtype for array in one] == [array.dtype for array in other]


@pytest.mark.parametrize("kind", WRONG)
def test_the_error_has_the_answers_so_far_and_says_how_to_go_on(kind):
    wrong, message = WRONG[kind]
    with pytest.raises(QueriesFailed) as failure:
        run("knockoff", Failing(wrong))
    assert message in str(failure.value)
    assert "14 of 40 queries were answered: they are in this error's transfer" in str(failure.value)
    assert "\n" not in str(failure.value)
    whole = run("knockoff", answer)
    same(failure.value.transfer, type(whole)(whole.images[:14], whole.answers[:14]))
    assert failure.value.spent == 21  # the batch that was under way may have been charged


@pytest.mark.parametrize("where", ["memory", "folder"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_same_call_goes_on_bit_for_bit_and_asks_nothing_twice(attack, where, tmp_path):
    whole = run(attack, answer)
    first, second = Failing(raising(TimeoutError())), Failing(raising(TimeoutError()), call=0)
    kept = {"folder": tmp_path / "answers"} if where == "folder" else {}
    with pytest.raises(QueriesFailed) as failure:
        run(attack, first, **kept)
    if where == "memory":
        kept = {"so_far": failure.value.transfer}
    shares = []
    same(run(attack, second, **kept, progress=shares.append), whole)
    assert sum(shares) == BUDGET
    assert first.answered + second.answered == [image.tobytes() for image in whole.images]


def test_a_folder_answers_the_call_that_has_ended_without_the_api_and_goes_on_with_a_larger_budget(tmp_path):
    whole = collect(jax.random.key(0), Knockoff(7), POOL, answer, budget=40, folder=tmp_path)
    same(collect(jax.random.key(0), Knockoff(7), POOL, None, budget=40, folder=tmp_path), whole)
    api = Failing(None, call=0)
    more = collect(jax.random.key(0), Knockoff(7), POOL, api, budget=60, folder=tmp_path)
    assert len(api.answered) == 20
    same(more, collect(jax.random.key(0), Knockoff(7), POOL, answer, budget=60))


@pytest.mark.parametrize("stops", ["the API", "the caller"])
def test_the_keyboard_keeps_the_answers_as_well(stops, tmp_path):
    heard = []

    def progress(count):
        heard.append(count)
        if stops == "the caller" and len(heard) == 2:
            raise KeyboardInterrupt

    api = Failing(raising(KeyboardInterrupt()) if stops == "the API" else answer)
    with pytest.raises(QueriesStopped, match=r"14 of 40 queries were answered: they are kept in .*, and the same call"):
        run("knockoff", api, progress=progress, folder=tmp_path)
    same(run("knockoff", answer, folder=tmp_path), run("knockoff", answer))


def test_what_an_attack_breaks_does_not_lose_the_answers():
    @dataclasses.dataclass(frozen=True)
    class Broken(Knockoff):
        def tell(self, state, images, answers):
            raise MemoryError("out of memory")

    with pytest.raises(QueriesFailed, match="MemoryError: out of memory") as failure:
        collect(jax.random.key(0), Broken(7), POOL, answer, budget=BUDGET)
    assert failure.value.transfer.queries == failure.value.spent == 7


def test_the_part_of_a_batch_that_was_answered_is_kept(tmp_path):
    def wrong(images):
        raise PartlyAnswered(answer(images[:3]), "the connection was lost")

    with pytest.raises(QueriesFailed, match="the connection was lost") as failure:
        run("adaptive", Failing(wrong), folder=tmp_path)
    assert (failure.value.transfer.queries, failure.value.spent) == (17, 21)
    second = Failing(None, call=0)
    same(run("adaptive", second, folder=tmp_path), run("adaptive", answer))
    assert len(second.answered) == BUDGET - 17


def test_queries_of_failed_batches_are_counted_in_all_calls_on_a_folder(tmp_path):
    for call, spent in ((3, 21), (2, 35), (1, 42)):
        with pytest.raises(QueriesFailed) as failure:
            run("knockoff", Failing(raising(TimeoutError()), call), folder=tmp_path)
        assert failure.value.spent == spent
    assert failure.value.transfer.queries == 21


def test_a_meter_around_the_api_is_a_limit_for_failed_queries_too():
    meter = Metered(Failing(raising(TimeoutError())), BUDGET)
    with pytest.raises(QueriesFailed) as failure:
        run("knockoff", meter)
    assert meter.spent == failure.value.spent == 21
    with pytest.raises(QueriesFailed, match="7 queries asked, but 5 of the budget of 40 remain") as end:
        run("knockoff", meter, so_far=failure.value.transfer)
    assert isinstance(end.value.__cause__, BudgetExhausted)
    assert meter.spent == 35


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_answers_to_other_queries_are_refused_before_the_api_is_asked(where, tmp_path):
    with pytest.raises(QueriesFailed) as failure:
        run("knockoff", Failing(raising(TimeoutError())), folder=tmp_path)
    kept = {"folder": tmp_path} if where == "folder" else {"so_far": failure.value.transfer}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="are other queries than those of this attack, from number 0 on"):
        collect(jax.random.key(1), Knockoff(7), POOL, pytest.fail, budget=BUDGET, **kept)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_error_before_any_answer_has_an_empty_transfer_set():
    with pytest.raises(QueriesFailed, match="none of 40 queries was answered") as failure:
        run("knockoff", Failing(raising(TimeoutError()), call=1))
    assert failure.value.transfer.images.shape == (0, 6, 6, 1)
    same(run("knockoff", answer, so_far=failure.value.transfer), run("knockoff", answer))


def test_recorded_answers_of_a_failed_call_are_an_api_with_the_rest_from_another():
    with pytest.raises(QueriesFailed) as failure:
        run("jacobian", Failing(raising(TimeoutError())))
    second = Failing(None, call=0)
    same(run("jacobian", Recorded(failure.value.transfer, otherwise=second)), run("jacobian", answer))
    assert len(second.answered) == BUDGET - failure.value.transfer.queries == 30


@pytest.mark.parametrize("ends", ["keyboard", "NaN"])
def test_an_online_theft_keeps_its_answers(ends):
    params = linear_params(jax.random.key(1), 36, 4)
    box = BlackBox(linear_logits, params, RandomNoise(0.1), jax.random.key(2))
    images = POOL[:20]
    options = {"optimizer": optax.sgd(0.1), "sees": "fixed", "batch_size": 5}
    whole = online(jax.random.key(0), NETWORK, images, box, **options)
    heard = []

    def progress(count):
        heard.append(count)
        if ends == "keyboard" and len(heard) == 3:
            raise KeyboardInterrupt

    if ends == "NaN":  # from the twelfth image on
        images = images.copy()
        box = dataclasses.replace(box, logits_fn=_broken_when_black)
        images[11:] = 0
    with pytest.raises(QueriesStopped if ends == "keyboard" else QueriesFailed) as failure:
        online(jax.random.key(0), NETWORK, images, box, progress=progress, **options)
    count, spent = (15, 15) if ends == "keyboard" else (11, 20)
    assert (failure.value.transfer.queries, failure.value.spent) == (count, spent)
    np.testing.assert_array_equal(failure.value.transfer.answers, whole.transfer.answers[:count])


def _broken_when_black(params, image):
    """A victim that has no answer to a black image."""
    return jax.numpy.where(image.max() > 0, linear_logits(params, image), jax.numpy.nan)
