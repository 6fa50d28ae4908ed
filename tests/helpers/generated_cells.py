"""Plausible trade-off cells for the tests of summaries, plots and reports."""

import base64
import io

import numpy as np

from pp_jax import records

# (defense, attacker's accuracy, defender's accuracy, mean L1) in the range that an MNIST LeNet shows.
CELLS = [
    ({"name": "no defense"}, 0.960, 0.992, 0.0),
    ({"name": "MAD", "epsilon": 0.1}, 0.951, 0.992, 0.1),
    ({"name": "MAD", "epsilon": 0.5}, 0.821, 0.992, 0.5),
    ({"name": "MAD", "epsilon": 0.99}, 0.507, 0.959, 0.98),
    ({"name": "MAD", "epsilon": 1.0}, 0.480, 0.077, 0.99),
    ({"name": "MAD", "epsilon": 1.5}, 0.128, 0.021, 1.47),
    ({"name": "MAD-argmax", "epsilon": 0.1}, 0.952, 0.992, 0.1),
    ({"name": "MAD-argmax", "epsilon": 0.5}, 0.827, 0.992, 0.5),
    ({"name": "MAD-argmax", "epsilon": 0.99}, 0.700, 0.992, 0.97),
    ({"name": "MAD-argmax", "epsilon": 1.5}, 0.425, 0.992, 1.32),
    ({"name": "reverse sigmoid", "beta": 0.1, "gamma": 0.2}, 0.940, 0.992, 0.35),
    ({"name": "reverse sigmoid", "beta": 0.5, "gamma": 0.2}, 0.830, 0.992, 0.8),
    ({"name": "reverse sigmoid", "beta": 1.0, "gamma": 0.2}, 0.360, 0.990, 1.28),
    ({"name": "random noise", "epsilon": 0.5}, 0.945, 0.992, 0.49),
    ({"name": "random noise", "epsilon": 0.99}, 0.901, 0.981, 0.95),
    ({"name": "random noise", "epsilon": 1.5}, 0.611, 0.402, 1.4),
    ({"name": "top-k", "k": 1}, 0.938, 0.992, 0.2),
    ({"name": "top-k", "k": 3}, 0.955, 0.992, 0.04),
    ({"name": "rounding", "decimals": 0}, 0.930, 0.992, 0.21),
    ({"name": "rounding", "decimals": 2}, 0.958, 0.992, 0.01),
    ({"name": "top-1"}, 0.937, 0.992, 0.21),
]


def cell(defense, attacker, defender, l1, *, seed=0, pool="font_letters", by="plain", **changes):
    """Keyword arguments of `records.write` for one cell."""
    jitter = 0.012 * np.sin(7.0 * seed + 13.0 * attacker)
    spread = {"mean": l1, "p50": l1, "p90": l1 * 1.01, "p99": l1 * 1.02, "max": l1 * 1.02}
    attack = {"name": by, "recovery": {}, "pool": pool, "budget": 5000, "epochs": 10, "model": "lenet"}
    result = {
        "victim_accuracy": 0.992,
        "attacker_accuracy": float(np.clip(attacker + jitter, 0, 1)),
        "defender_accuracy": defender,
        "fidelity": float(np.clip(attacker + jitter - 0.002, 0, 1)),
        "queries": 5000,
        "query_l1": spread,
        "query_l2": spread,
        "query_kl": spread,
        "query_angle_degrees": {"mean": 60 * l1, "p50": 60 * l1, "p90": 70 * l1, "p99": 80 * l1, "max": 90 * l1},
        "query_kept_argmax": defender,
        "test_l1": spread,
        "test_kept_argmax": defender,
        "chance": 0.1,
        "examples": [example(index, l1) for index in range(3)],
    }
    return {
        "kind": "tradeoff",
        "config": {
            "victim": {"dataset": "mnist", "model": "lenet", "train_size": 60000, "epochs": 10, "seed": 0},
            "attack": attack,
            "defense": {**defense, "content": records.key(defense)},
            "setting": "fedcba9876543210",
            "seed": seed,
        },
        "result": result | changes,
        "timings": {"answers_s": 1.5, "train_s": 12.25, "total_s": 14.0},
    }


def example(index, l1):
    """One image with its clean posterior and an answer at the given L1 distance."""
    from PIL import Image

    pixels = (np.add.outer(np.arange(28), np.arange(28)) * (index + 3) % 256).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    clean = np.full(10, 0.003)
    clean[3 + index] = 0.973
    answer = clean.copy()
    answer[3 + index] -= min(l1 / 2, 0.97)
    answer[7] += min(l1 / 2, 0.97)
    return {
        "image_png": base64.b64encode(buffer.getvalue()).decode("ascii"),
        "label": index,
        "class_names": [str(digit) for digit in range(10)],
        "clean": clean.tolist(),
        "answer": answer.tolist(),
    }


def write_all(folder, *, seeds=(0,), cells=CELLS, **settings):
    """Write every cell for every seed and read the folder back."""
    for seed in seeds:
        for numbers in cells:
            records.write(folder, **cell(*numbers, seed=seed, **settings))
    return records.load_all(folder)
