"""Path finding recovers the partition of a decision tree exactly, and notices where it cannot."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pp_jax.attacks import QueriesFailed
from pp_jax.attacks.structural import Leaves, ScikitAPI, TreeAPI, find_paths, find_paths_top_down

tree = pytest.importorskip("sklearn.tree")

KEY = jax.random.key(0)


def grown(features, leaves, *, seed=0, classes=3):
    """A tree of scikit-learn on random labels: impure leaves of many sizes."""
    rng = np.random.default_rng(seed)
    rows, labels = rng.random((60 * leaves, features)).astype(np.float32), rng.integers(0, classes, 60 * leaves)
    labels[:classes] = np.arange(classes)
    return tree.DecisionTreeClassifier(max_leaf_nodes=leaves, min_samples_leaf=5, random_state=0).fit(rows, labels)


def boxes(model):
    """The leaves of a tree as scikit-learn has them, low < x ≤ high, thresholds rounded down to float32."""
    found = []

    def walk(node, low, high):
        inner = model.tree_
        if inner.children_left[node] < 0:
            found.append((*low, *high))
            return
        at, threshold = inner.feature[node], inner.threshold[node]
        cut = np.float32(threshold)
        cut = float(cut if cut <= threshold else np.nextafter(cut, np.float32(-np.inf)))
        walk(inner.children_left[node], low, [*high[:at], cut, *high[at + 1 :]])
        walk(inner.children_right[node], [*low[:at], cut, *low[at + 1 :]], high)

    width = model.n_features_in_
    walk(0, [-np.inf] * width, [np.inf] * width)
    return sorted(found)


def found_boxes(leaves):
    """The same of what was found."""
    return sorted(map(tuple, np.c_[leaves.low, leaves.high].tolist()))


@settings(max_examples=6)
@given(st.integers(1, 6), st.integers(2, 14), st.integers(0, 3))
def test_bottom_up_finds_every_leaf_to_the_last_bit_of_its_thresholds(features, leaves, seed):
    model = grown(features, leaves, seed=seed)
    api = TreeAPI(model, distinct=False)
    if len(np.unique(api._values[model.tree_.children_left < 0], axis=0)) < model.get_n_leaves():
        return  # these leaves cannot be told apart
    stolen = find_paths(KEY, api, features=features, budget=100_000)
    assert found_boxes(stolen.model) == boxes(model)
    rows = np.random.default_rng(1).random((300, features)).astype(np.float32)
    np.testing.assert_array_equal(stolen.model(rows), api(rows[:, None, None]))


@settings(max_examples=6)
@given(st.integers(1, 6), st.integers(2, 14), st.integers(0, 3))
def test_top_down_finds_every_leaf_to_the_last_bit_of_its_thresholds(features, leaves, seed):
    model = grown(features, leaves, seed=seed)
    api = TreeAPI(model, incomplete=True, distinct=False)
    if len(np.unique(api._values, axis=0)) < model.tree_.node_count:
        return
    stolen = find_paths_top_down(api, features=features, budget=100_000)
    assert found_boxes(stolen.model) == boxes(model)


def test_every_query_is_counted_and_within_the_stated_number():
    model, asked = grown(5, 12), []
    api = TreeAPI(model)

    def counted(images):
        asked.append(len(images))
        return api(images)

    stolen = find_paths(KEY, counted, features=5, budget=100_000)
    sides = int(np.isfinite(stolen.model.low).sum() + np.isfinite(stolen.model.high).sum())
    assert stolen.queries == sum(asked) <= 12 * 2 * 5 + 30 * sides + 1
    asked.clear()
    api = TreeAPI(model, incomplete=True)
    stolen = find_paths_top_down(counted, features=5, budget=100_000)
    assert stolen.queries == sum(asked) <= 23 * 5 + 12 * 2 * 5 + 30 * sides + 1


def test_a_coarser_precision_costs_less_and_is_off_by_no_more():
    model = grown(3, 8)
    exact, coarse = (find_paths(KEY, TreeAPI(model), features=3, budget=100_000, precision=p) for p in (0.0, 1e-3))
    assert coarse.queries < 0.6 * exact.queries
    assert len(coarse.model) == len(exact.model)
    cuts = [np.unique(each.model.low[np.isfinite(each.model.low)]) for each in (exact, coarse)]
    assert np.abs(cuts[0][:, None] - cuts[1]).min(axis=0).max() <= 1e-3


def test_leaves_that_share_their_confidence_are_noticed_and_the_nearest_box_answers():
    model = grown(2, 12, classes=2)
    raw = TreeAPI(model, smoothing=0, distinct=False)

    def blurred(images):
        return np.eye(2)[raw(images).argmax(axis=1)]

    with pytest.raises(QueriesFailed, match=r"leaves share confidence values: .*write distinct=False"):
        find_paths(KEY, blurred, features=2, budget=100_000)
    partial = find_paths(KEY, blurred, features=2, budget=100_000, distinct=False)
    assert len(partial.model) == 2
    rows = np.random.default_rng(1).random((300, 2)).astype(np.float32)
    assert set(np.unique(partial.model(rows))) == {0.0, 1.0}


def test_a_spent_budget_keeps_what_was_answered_and_the_same_call_goes_on():
    api, spent = TreeAPI(grown(3, 6)), []

    def counted(images):
        spent.append(len(images))
        return api(images)

    with pytest.raises(QueriesFailed, match=r"of the budget of 100 remain.*so_far=error\.transfer") as caught:
        find_paths(KEY, counted, features=3, budget=100)
    before = sum(spent)
    resumed = find_paths(KEY, counted, features=3, budget=100_000, so_far=caught.value.transfer)
    assert before == caught.value.transfer.queries
    assert sum(spent) == resumed.queries == find_paths(KEY, api, features=3, budget=100_000).queries


def test_complete_queries_alone_do_not_do_for_the_top_down_approach():
    with pytest.raises(QueriesFailed, match=r"queries must be complete"):
        find_paths_top_down(TreeAPI(grown(3, 4)), features=3, budget=1000)

    def any_answer(images):
        return np.linspace(0.1, 0.5, len(images))[:, None] * np.array([1, -1]) + np.array([0, 1])

    with pytest.raises(QueriesFailed, match=r"a node splits on 2 features: the API answers no incomplete queries"):
        find_paths_top_down(any_answer, features=3, budget=1000)


@pytest.mark.parametrize("precision", [-1, 0.6])
def test_a_precision_out_of_range_is_refused(precision):
    with pytest.raises(ValueError, match=r"precision must be at least 0 and at most 0\.5"):
        find_paths(KEY, TreeAPI(grown(2, 2)), features=2, budget=10, precision=precision)


def test_labels_are_refused_before_anything_is_asked():
    api = ScikitAPI(grown(2, 2), labels_only=True)
    with pytest.raises(ValueError, match=r"needs posteriors.*learn_tree do") as caught:
        find_paths(KEY, api, features=2, budget=10)
    assert not isinstance(caught.value, QueriesFailed)


def test_outside_of_all_boxes_the_nearest_responds():
    leaves = Leaves(np.array([[0.0], [0.6]]), np.array([[0.4], [1.0]]), np.array([7, 9]))
    np.testing.assert_array_equal(leaves(np.array([[0.2], [0.45], [0.55], [0.8]])), [7, 7, 9, 9])
    assert leaves.volume() == pytest.approx(0.8)
