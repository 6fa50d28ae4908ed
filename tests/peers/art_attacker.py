"""An attacker of the Adversarial Robustness Toolbox, in its environment: ATTACK URL KEY IMAGES.npz.

Prints the stolen model's accuracy as JSON. The victim is a BlackBoxClassifier that speaks v1 to the service.
"""

import json
import sys

import httpx
import numpy as np
from art.attacks.extraction import CopycatCNN, KnockoffNets
from art.estimators.classification import BlackBoxClassifier
from art.estimators.classification.classifier import ClassifierMixin
from art.estimators.estimator import BaseEstimator

SHAPE, CLASSES = (8, 8, 1), 10


class Softmax(ClassifierMixin, BaseEstimator):
    """Softmax regression in NumPy, which learns from posteriors as well as from labels."""

    def __init__(self):
        super().__init__(model=None, clip_values=(0, 1))
        self.nb_classes = CLASSES
        self.weights = np.zeros((int(np.prod(SHAPE)) + 1, CLASSES))

    @property
    def input_shape(self):
        """Of one image."""
        return SHAPE

    def fit(self, x, y, batch_size=64, nb_epochs=10, **kwargs):
        """Gradient descent on the cross-entropy."""
        rng = np.random.default_rng(0)
        for _ in range(nb_epochs):
            for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // batch_size)):
                error = self.predict(x[rows]) - y[rows]
                self.weights -= 0.5 * _flat(x[rows]).T @ error / len(rows)

    def predict(self, x, batch_size=64, **kwargs):
        """Posteriors."""
        scores = np.exp(_flat(x) @ self.weights)
        return scores / scores.sum(axis=1, keepdims=True)


def _flat(x):
    return np.hstack([x.reshape(len(x), -1), np.ones((len(x), 1))])


def main(attack, url, key, path):
    """Steal, and judge the stolen model."""
    data = np.load(path)
    client = httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def predict(images):
        answer = client.post(f"{url}/v1/models/model:predict", json={"instances": images.tolist()})
        answer.raise_for_status()
        return np.array(answer.json()["predictions"], np.float32)

    victim = BlackBoxClassifier(predict, SHAPE, CLASSES, clip_values=(0, 1))
    options = {"batch_size_fit": 32, "batch_size_query": 64, "nb_epochs": 60, "nb_stolen": int(data["budget"])}
    if attack == "CopycatCNN":
        thief = CopycatCNN(victim, **options, use_probability=True)
    else:
        strategy = attack.removeprefix("KnockoffNets-")
        options |= {"sampling_strategy": strategy, "reward": "all", "verbose": False}
        thief = KnockoffNets(victim, **options, use_probability=True)
    np.random.seed(0)  # noqa: NPY002 (what the attacks draw from)
    stolen = thief.extract(data["pool"], data["pool_labels"], thieved_classifier=Softmax())
    found = stolen.predict(data["test"]).argmax(axis=1)
    print(json.dumps({"accuracy": float((found == data["labels"]).mean())}))


main(*sys.argv[1:])
