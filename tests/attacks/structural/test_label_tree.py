"""Decision trees are learned from labels: their thresholds to the last bit, their function on nearly all inputs."""

import jax
import numpy as np
import pytest

from pp_jax.attacks import QueriesFailed
from pp_jax.attacks.structural import ScikitAPI, learn_tree

tree = pytest.importorskip("sklearn.tree")

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def victim():
    """A tree of scikit-learn with a dozen leaves, and its training inputs."""
    rng = np.random.default_rng(0)
    rows = rng.random((400, 4)).astype(np.float32)
    labels = (rows[:, 0] > 0.4) + (rows[:, 1] + 0.3 * rows[:, 2] > 0.6).astype(int)
    return tree.DecisionTreeClassifier(max_leaf_nodes=12, random_state=0).fit(rows, labels)


def test_labels_alone_give_the_tree(victim):
    api = ScikitAPI(victim, labels_only=True)
    stolen = learn_tree(KEY, api, features=4, budget=50_000)
    rows = np.random.default_rng(1).random((5000, 4)).astype(np.float32)
    assert np.mean(stolen.model(rows) == victim.predict(rows)) > 0.99
    assert stolen.model.volume() == pytest.approx(1)
    inner = victim.tree_
    cuts = {(f, np.float32(t)) for f, t in zip(inner.feature, inner.threshold, strict=True) if f >= 0}
    nearby = cuts | {(f, np.nextafter(t, np.float32(-1))) for f, t in cuts}
    finite = np.argwhere(np.isfinite(stolen.model.low))
    assert {(f, np.float32(stolen.model.low[leaf, f])) for leaf, f in finite} <= nearby


@pytest.mark.slow
def test_more_samples_leave_less_undiscovered(victim):
    rows = np.random.default_rng(1).random((5000, 4)).astype(np.float32)
    missed, queries = [], []
    for samples in (4, 256):
        api = ScikitAPI(victim, labels_only=True)
        stolen = learn_tree(KEY, api, features=4, budget=100_000, samples=samples)
        missed.append(np.mean(stolen.model(rows) != victim.predict(rows)))
        queries.append(stolen.queries)
    assert missed[1] < missed[0]
    assert missed[1] < 0.01
    assert queries[0] < queries[1]


def test_a_constant_victim_is_one_leaf():
    stolen = learn_tree(KEY, lambda images: np.full(len(images), 3), features=2, budget=100)
    assert (len(stolen.model), stolen.queries) == (1, 64)
    np.testing.assert_array_equal(stolen.model(np.zeros((2, 2))), [3, 3])


def test_random_responses_are_no_tree():
    rng = np.random.default_rng(0)
    with pytest.raises(QueriesFailed, match=r"responds at random|of the budget of 3000 remain"):
        learn_tree(KEY, lambda images: rng.integers(0, 2, len(images)), features=2, budget=3000)


@pytest.mark.parametrize("options", [{"samples": 1}, {"pairs": 0}, {"precision": 1.0}, {"budget": 0}])
def test_bad_parameters_are_refused_before_anything_is_asked(options):
    def api(images):
        raise AssertionError("asked")

    with pytest.raises(ValueError, match=next(iter(options))):
        learn_tree(KEY, api, **{"features": 2, "budget": 100, **options})
