"""What a theft came to, as its record has it: on the test images, and on the thief's own queries."""

import base64
import io
from typing import Any

from train_victim import Trained


def ask(box: Any, images: Any) -> tuple[Any, Any]:
    """The answers of a black box to a new user, and the clean posteriors behind them, (N, K) each, on the host."""
    import numpy as np

    session = box.session()
    parts = [session(images[i : i + 500]) for i in range(0, len(images), 500)]
    answers = np.concatenate([np.asarray(answers) for answers, _ in parts])
    return answers, np.concatenate([np.asarray(audit.probs) for _, audit in parts])


def judge(box: Any, test: Any, thief: Any) -> dict[str, Any]:
    """What the owner and the thief score on the test images."""
    from pp_jax import metrics

    answers, clean = ask(box, test.images)
    return {
        "attacker_accuracy": metrics.accuracy(thief, test.labels),
        "defender_accuracy": metrics.accuracy(answers, test.labels),
        "fidelity": metrics.agreement(thief, clean),
        "test_l1": metrics.distances(clean, answers)["l1"],
        "test_kept_argmax": metrics.agreement(answers, clean),
        "examples": [example(test, index, clean, answers) for index in _shown(test.labels)],
    }


def judge_queries(victim: Trained, *, images: Any, answers: Any, surrogate: tuple[Any, Any]) -> dict[str, Any]:
    """How far the answers to the thief's queries are from the clean posteriors."""
    from pp_jax import metrics

    clean = metrics.predict(victim.network, victim.params, images)
    network, params = surrogate
    angles = metrics.angular_deviation(clean, answers, images, logits_fn=network, params=params)
    distances = {f"query_{name}": values for name, values in metrics.distances(clean, answers).items()}
    return {
        **distances,
        "query_angle_degrees": metrics.summary(angles),
        "query_kept_argmax": metrics.agreement(answers, clean),
    }


def _shown(labels: Any) -> list[int]:
    """The first test image of each of four classes."""
    return [int((labels == label).argmax()) for label in range(min(4, labels.max() + 1))]


def example(test: Any, index: int, clean: Any, answers: Any) -> dict[str, Any]:
    """One image with its clean and its returned posterior, for the report."""
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(test.images[index].squeeze()).save(png, "PNG")
    return {
        "image_png": base64.b64encode(png.getvalue()).decode(),
        "label": int(test.labels[index]),
        "class_names": list(test.class_names),
        "clean": clean[index].tolist(),
        "answer": answers[index].tolist(),
    }
