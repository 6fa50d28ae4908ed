"""What a run came to: accuracies of everyone, distances of the responses, benign accounts that are accused."""

from __future__ import annotations

import base64
import functools
import io
from typing import Any

import numpy as np

from pp_jax.detection.accusing import accused
from pp_jax.detection.policy import Policy
from pp_jax.evaluation import metrics
from pp_jax.evaluation.setups import Deployed, Setup, Stolen
from pp_jax.evaluation.victims import Images
from pp_jax.serving.blackbox import BlackBox
from pp_jax.training.adapting import t3a
from pp_jax.training.predicting import predict

_AT_ONCE = 500


def judge(setup: Setup, at: Deployed, stolen: Stolen, network: Any, params: Any, *, adapted: int = 0) -> dict[str, Any]:
    """What a run came to: accuracies in [0, 1], distances of the responses, a few examples.

    With `adapted` the stolen model predicts by a head that adapts to the test images (`training.t3a`).
    """
    test = setup.test
    predict_by = functools.partial(t3a, kept=adapted) if adapted else predict
    predicted = predict_by(network, params, test.images)
    answers, clean, examples = _on_test_images(setup, at)
    images, responses = stolen.transfer.images, stolen.transfer.answers
    own = predict(at.box.logits_fn, at.box.params, images)
    angles = metrics.angular_deviation(own, responses, images, logits_fn=at.surrogate[0], params=at.surrogate[1])
    return {
        "victim_accuracy": metrics.accuracy(clean, test.labels),
        "attacker_accuracy": metrics.accuracy(predicted, test.labels),
        "defender_accuracy": metrics.accuracy(answers, test.labels),
        "fidelity": metrics.agreement(predicted, clean),
        "test_l1": metrics.distances(clean, answers)["l1"],
        "test_kept_argmax": metrics.agreement(answers, clean),
        "examples": examples,
        **{f"query_{name}": values for name, values in metrics.distances(own, responses).items()},
        "query_angle_degrees": metrics.summary(angles),
        "query_kept_argmax": metrics.agreement(responses, own),
        "queries": stolen.queries,
        "chance": 1 / setup.classes,
        **_accusations(setup, at),
    }


@functools.lru_cache(maxsize=2)
def _on_test_images(setup: Setup, at: Deployed) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Responses and clean posteriors of a new user's test images, (N, K) each, and a few examples."""
    answers, clean = ask(at.box, setup.test.images)
    labels = np.asarray(setup.test.labels)
    shown = [int((labels == label).argmax()) for label in range(min(4, labels.max() + 1))]
    return answers, clean, [_example(setup.test, index, clean, answers) for index in shown]


def _accusations(setup: Setup, at: Deployed) -> dict[str, Any]:
    """Shares of benign accounts, by kind, that a policy treats otherwise than it should; nothing for other defenses."""
    if not isinstance(at.box.defense, Policy):
        return {}
    return {"accused": _accused(setup, at)}


@functools.lru_cache(maxsize=2)
def _accused(setup: Setup, at: Deployed) -> dict[str, float]:
    policy = at.box.defense
    assert isinstance(policy, Policy)
    return accused(at.attack_key, policy, at.box.logits_fn, setup.test.images, setup.test.labels)


def ask(box: BlackBox, images: Any) -> tuple[Any, Any]:
    """Responses of a black box to a new user, and the clean posteriors behind them, (N, K) each, on the host.

    Where a policy's thresholds were set on accounts of so many queries, every so many images are another new user's.
    """
    most = len(images)
    if isinstance(box.defense, Policy) and box.defense.account_queries is not None:
        most = min(most, box.defense.account_queries)
    parts = []
    for start in range(0, len(images), most):
        session, stop = box.session(), min(start + most, len(images))
        parts += [session(images[i : min(i + _AT_ONCE, stop)]) for i in range(start, stop, _AT_ONCE)]
    answers = np.concatenate([np.asarray(response) for response, _ in parts])
    return answers, np.concatenate([np.asarray(audit.probs) for _, audit in parts])


def _example(test: Images, index: int, clean: Any, answers: Any) -> dict[str, Any]:
    """One image with its clean and its returned posterior, for the report."""
    from PIL import Image

    image = np.asarray(test.images[index])
    if image.dtype != np.uint8:
        image = np.round(255 * image).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(image.squeeze()).save(png, "PNG")
    names = test.class_names or tuple(str(label) for label in range(clean.shape[1]))
    return {
        "image_png": base64.b64encode(png.getvalue()).decode(),
        "label": int(test.labels[index]),
        "class_names": list(names),
        "clean": clean[index].tolist(),
        "answer": answers[index].tolist(),
    }
