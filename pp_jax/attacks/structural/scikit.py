"""scikit-learn classifiers as prediction APIs: victims of the structural attacks, with features as images (1, 1, d)."""

from typing import Any

import numpy as np

from pp_jax._checks import check_range, name_of


class ScikitAPI:
    """A fitted classifier of scikit-learn as a black box: images (B, 1, 1, d) in, posteriors or labels out.

    Pixels in [0, 1] become features: low + (high − low)·x. Responses are in float64, as scikit-learn computes them.

    Args:
        model: a fitted classifier.
        labels_only: respond with class indices, (B,), in the order of `model.classes_`.
        low: a feature where the pixel is 0, a number or (d,).
        high: a feature where the pixel is 1, a number or (d,).

    Raises:
        ValueError: for a regressor or another object that is no classifier, one that is not fitted, one without
            `predict_proba` where posteriors are wanted, or a range that is none.
        ImportError: without scikit-learn.
    """

    def __init__(self, model: Any, *, labels_only: bool = False, low: Any = 0.0, high: Any = 1.0) -> None:
        base, exceptions, validation = _sklearn()
        name = name_of(model)
        if not isinstance(model, base.BaseEstimator) or not base.is_classifier(model):
            raise ValueError(f"the victim must be a fitted classifier of scikit-learn, which {name} is not")
        try:
            validation.check_is_fitted(model)
        except exceptions.NotFittedError as error:
            raise ValueError(f"{name} is not fitted; write {name}(…).fit(features, labels)") from error
        if not labels_only and not hasattr(model, "predict_proba"):
            raise ValueError(f"{name} gives no posteriors; write ScikitAPI(model, labels_only=True)")
        self.model, self.labels_only = model, labels_only
        self.features, self.classes = int(model.n_features_in_), len(model.classes_)
        self._low = np.broadcast_to(np.asarray(low, np.float64), (self.features,))
        self._high = np.broadcast_to(np.asarray(high, np.float64), (self.features,))
        if not np.all(self._low < self._high):
            raise ValueError("low must be below high for every feature")

    def __call__(self, images: Any) -> np.ndarray:
        """Respond to queries, (B, 1, 1, d): posteriors (B, K) in float64, or class indices (B,)."""
        rows = self._rows(images)
        if self.labels_only:
            return np.searchsorted(self.model.classes_, self.model.predict(rows))
        return self.model.predict_proba(rows)

    def _rows(self, images: Any) -> np.ndarray:
        """The features that images stand for, (B, d)."""
        pixels = np.asarray(images)
        if pixels.ndim < 2 or pixels[0].size != self.features:
            raise ValueError(f"queries have shape {pixels.shape}: must be (B, 1, 1, {self.features})")
        return self._low + (self._high - self._low) * pixels.reshape(len(pixels), -1)


class TreeAPI(ScikitAPI):
    """A decision tree of scikit-learn as a service shows it: smoothed confidence values, and incomplete queries.

    y_k = (n_k + s) / (n + sK) of the node that a query reaches, n_k the training samples of class k in it. Raw leaves
    (s = 0) are often pure and share the confidence 1; smoothed ones differ by their size, as BigML's do. A query with
    NaN for a feature stops where that feature is asked for, and is answered with that inner node's confidence.

    Args:
        model: a fitted `DecisionTreeClassifier` with one output.
        smoothing: s ≥ 0.
        incomplete: accept queries with NaN.
        distinct: refuse a tree whose leaves (with `incomplete` its nodes) share confidence values.
        low: a feature where the pixel is 0, a number or (d,).
        high: a feature where the pixel is 1, a number or (d,).

    Raises:
        ValueError: for what `ScikitAPI` refuses, another model than a tree, or shared confidence values.
        ImportError: without scikit-learn.
    """

    def __init__(
        self,
        model: Any,
        *,
        smoothing: float = 1.0,
        incomplete: bool = False,
        distinct: bool = True,
        low: Any = 0.0,
        high: Any = 1.0,
    ) -> None:
        super().__init__(model, low=low, high=high)
        check_range("smoothing", smoothing, low=0, high=float("inf"))
        if not hasattr(model, "tree_") or model.tree_.n_outputs != 1:
            raise ValueError(f"{name_of(model)} is no decision tree with one output; write ScikitAPI(model)")
        self.tree, self.incomplete = model.tree_, incomplete
        shares = self.tree.value[:, 0, :] / self.tree.value[:, 0, :].sum(axis=1, keepdims=True)
        size = self.tree.n_node_samples[:, None]
        self._values = (size * shares + smoothing) / (size + smoothing * self.classes)
        told = self._values if incomplete else self._values[self.tree.children_left < 0]
        shared = len(told) - len(np.unique(told, axis=0))
        if distinct and shared:
            kind = "nodes" if incomplete else "leaves"
            raise ValueError(
                f"{shared + 1} or more of the tree's {len(told)} {kind} share confidence values, which path finding "
                "tells them apart by; write distinct=False to attack it none the less"
            )

    def __call__(self, images: Any) -> np.ndarray:
        """Respond to queries, (B, 1, 1, d), with posteriors (B, K).

        Raises:
            ValueError: for queries of another shape, or with NaN where they must be complete.
        """
        rows = self._rows(images).astype(np.float32)
        if not self.incomplete and np.isnan(rows).any():
            raise ValueError("queries must be complete; write TreeAPI(model, incomplete=True) for those with NaN")
        nodes = np.zeros(len(rows), int)
        for _ in range(self.tree.max_depth):
            feature = self.tree.feature[nodes]
            asked = rows[np.arange(len(rows)), np.maximum(feature, 0)]
            left = asked.astype(np.float64) <= self.tree.threshold[nodes]
            child = np.where(left, self.tree.children_left[nodes], self.tree.children_right[nodes])
            nodes = np.where((feature < 0) | np.isnan(asked), nodes, child)
        return self._values[nodes]


def _sklearn() -> tuple[Any, Any, Any]:
    """The modules of scikit-learn that judge a model."""
    try:
        from sklearn import base, exceptions
        from sklearn.utils import validation
    except ImportError as error:
        raise ImportError("victims of scikit-learn need scikit-learn: pip install 'pp-jax[detection]'") from error
    return base, exceptions, validation
