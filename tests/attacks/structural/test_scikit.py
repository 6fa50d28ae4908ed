"""scikit-learn's models behind the API, and what is refused as a victim."""

import numpy as np
import pytest

from pp_jax.attacks.structural import LabelAPI, ScikitAPI, TreeAPI

sklearn = pytest.importorskip("sklearn")
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # noqa: E402

RNG = np.random.default_rng(0)
ROWS = RNG.random((80, 3)).astype(np.float32)
LABELS = (ROWS.sum(axis=1) > 1.5).astype(int)


def test_responses_are_the_models_own():
    model = LogisticRegression().fit(ROWS, LABELS)
    np.testing.assert_array_equal(ScikitAPI(model)(ROWS[:, None, None]), model.predict_proba(ROWS.astype(np.float64)))


def test_labels_are_places_in_the_models_classes():
    names = np.array(["no", "yes"])[LABELS]
    api = ScikitAPI(LinearSVC().fit(ROWS, names), labels_only=True)
    assert isinstance(api, LabelAPI)
    assert set(api(ROWS[:, None, None])) == {0, 1}
    assert np.mean(api(ROWS[:, None, None]) == LABELS) > 0.9


def test_pixels_become_features_of_any_range():
    low, high = np.array([-1.0, 0.0, 10.0]), np.array([1.0, 5.0, 20.0])
    model = LogisticRegression().fit(low + (high - low) * ROWS, LABELS)
    api = ScikitAPI(model, low=low, high=high)
    np.testing.assert_allclose(api(ROWS[:, None, None]), model.predict_proba(low + (high - low) * ROWS), atol=1e-9)


def test_a_tree_without_smoothing_responds_as_scikit_learn():
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(ROWS, LABELS)
    api = TreeAPI(tree, smoothing=0, distinct=False)
    np.testing.assert_allclose(api(ROWS[:, None, None]), tree.predict_proba(ROWS), atol=1e-12)


def test_an_incomplete_query_stops_at_the_node_that_asks_for_the_feature():
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(ROWS, LABELS)
    api = TreeAPI(tree, smoothing=0, incomplete=True, distinct=False)
    root = np.bincount(LABELS) / len(LABELS)
    np.testing.assert_allclose(api(np.full((1, 1, 1, 3), np.nan))[0], root, atol=1e-12)
    query = np.full((1, 1, 1, 3), np.nan)
    query[0, 0, 0, tree.tree_.feature[0]] = 0
    left = LABELS[ROWS[:, tree.tree_.feature[0]] <= tree.tree_.threshold[0]]
    np.testing.assert_allclose(api(query)[0], np.bincount(left, minlength=2) / len(left), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScikitAPI(LinearRegression().fit(ROWS, LABELS)), r"classifier .* which LinearRegression is not"),
        (lambda: TreeAPI(DecisionTreeRegressor().fit(ROWS, LABELS)), r"which DecisionTreeRegressor is not"),
        (lambda: ScikitAPI(lambda x: x), r"must be a fitted classifier of scikit-learn, which <lambda> is not"),
        (lambda: ScikitAPI(LogisticRegression), r"which LogisticRegression is not"),
        (lambda: ScikitAPI(LogisticRegression()), r"LogisticRegression is not fitted; write LogisticRegression"),
        (lambda: ScikitAPI(LinearSVC().fit(ROWS, LABELS)), r"LinearSVC gives no posteriors; write .*labels_only=True"),
        (lambda: TreeAPI(LogisticRegression().fit(ROWS, LABELS)), r"LogisticRegression is no decision tree"),
        (lambda: ScikitAPI(LogisticRegression().fit(ROWS, LABELS), low=1), r"low must be below high"),
        (
            lambda: TreeAPI(DecisionTreeClassifier().fit(ROWS, LABELS), smoothing=0),
            r"of the tree's \d+ leaves share confidence values.*write distinct=False",
        ),
        (
            lambda: ScikitAPI(LogisticRegression().fit(ROWS, LABELS))(np.zeros((2, 1, 1, 4))),
            r"queries have shape \(2, 1, 1, 4\): must be \(B, 1, 1, 3\)",
        ),
        (
            lambda: TreeAPI(DecisionTreeClassifier(max_depth=1).fit(ROWS, LABELS))(np.full((1, 1, 1, 3), np.nan)),
            r"queries must be complete; write TreeAPI\(model, incomplete=True\)",
        ),
    ],
)
def test_what_is_no_victim_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
