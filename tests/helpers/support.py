"""What several test files share: golden numbers, toy networks, hard posteriors and the NumPy judge of guarantees."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax.training import Trainable

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def quick(cases, *places):
    """Cases for `parametrize` of which only those at some places run in `make test`; the others are slow tests."""
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=() if place in places else pytest.mark.slow) for place, case in enumerate(cases)]


@functools.cache
def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of tests/golden/`name`.npz, by key."""
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return dict(archive)


def given_logits(params, image):
    """A surrogate whose logits are the image itself: every posterior can be asked for."""
    del params
    return image.ravel()


def linear_logits(params, image):
    """One dense layer over the pixels; uint8 pixels count in 255ths."""
    scale = 1 / 255 if image.dtype == jnp.uint8 else 1
    return scale * image.ravel() @ params["params"]["kernel"] + params["params"]["bias"]


def linear_params(key, pixels, classes, *, scale=1.0):
    """Weights for `linear_logits`, normally distributed."""
    return {"params": {"kernel": scale * jax.random.normal(key, (pixels, classes)), "bias": jnp.zeros(classes)}}


class Linear(Trainable):
    """`linear_logits` as a trainable network."""

    def __init__(self, classes):
        self.classes = classes

    def init(self, key, image_shape):
        """Small random weights."""
        return linear_params(key, int(np.prod(image_shape)), self.classes, scale=0.01)

    def __call__(self, params, image):
        """Logits of one image."""
        return linear_logits(params, image)

    def train(self, params, images):
        """Logits of a batch; there are no batch statistics."""
        return jax.vmap(linear_logits, (None, 0))(params, images), params


class Counted:
    """A logits function that counts how often it is traced."""

    def __init__(self, function):
        self.function = function
        self.traces = 0

    def __call__(self, params, image):
        self.traces += 1
        return self.function(params, image)


def blobs(seed, count, *, classes=4, side=6):
    """Noisy prototypes as images (count, side, side, 1) in [0, 1] with their labels; prototypes ignore the seed."""
    prototypes = np.random.default_rng(0).uniform(0.2, 0.8, (classes, side, side, 1))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    images = prototypes[labels] + 0.12 * rng.normal(size=(count, side, side, 1))
    return np.clip(images, 0, 1).astype(np.float32), labels


def bright_halves(seed=0):
    """Images (256, 4, 4, 1) of two classes, told apart by the bright row, their labels, and outliers (64, 4, 4, 1)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(256) % 2
    images = 0.2 * rng.random((256, 4, 4, 1), np.float32)
    images[np.arange(256), 2 * labels] += 0.8
    outliers = 0.2 * rng.random((64, 4, 4, 1), np.float32)
    outliers[:, 0] += 0.8
    outliers[:, 2] += 0.8
    return images, labels, outliers


def linear_posteriors(params, images):
    """Posteriors (B, K) of `linear_logits`."""
    return jax.nn.softmax(jax.vmap(linear_logits, (None, 0))(params, images))


def _softmax(z):
    """Softmax of the rows, in float64."""
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def hard_posteriors(rng, rows, classes):
    """Posteriors (rows, K), float32, of every kind that breaks things, in equal shares."""
    n = -(-rows // 10)
    eye = np.eye(classes)

    def one_hots():
        return eye[rng.integers(0, classes, n)]

    def subset():
        chosen = rng.random((n, classes)) < 0.5
        chosen[np.arange(n), rng.integers(0, classes, n)] = True
        return chosen / chosen.sum(1, keepdims=True)

    tied = one_hots() + one_hots() + 1e-3 * rng.random((n, classes)) * (rng.random((n, 1)) < 0.5)
    share = rng.random((n, 1))
    kinds = [
        rng.dirichlet(np.ones(classes), n),
        rng.dirichlet(np.full(classes, 0.05), n),
        one_hots(),
        np.full((n, classes), 1 / classes),
        tied / tied.sum(1, keepdims=True),
        subset(),
        _softmax(rng.choice([-1e4, -1.0, 0.0, 1.0, 1e4], (n, classes))),
        _softmax(7 * one_hots() + rng.normal(size=(n, classes)) + 5 * np.log(classes) * one_hots()),
        one_hots() + 10.0 ** rng.uniform(-45, -36, (n, classes)),
        share * one_hots() + (1 - share) / classes,
    ]
    return np.concatenate(kinds)[:rows].astype(np.float32)


def surrogate_logits(rng, probs):
    """Surrogate logits (rows, K), float32: diffuse, equal to the posterior, extreme (±1e4), or all the same."""
    with np.errstate(divide="ignore"):
        same = np.maximum(np.log(probs), -1e4)
    kinds = [rng.normal(size=probs.shape), same, rng.choice([-1e4, 0.0, 1e4], probs.shape), np.zeros(probs.shape)]
    kind = rng.choice(len(kinds), len(probs), p=[0.4, 0.3, 0.2, 0.1])
    return np.select([kind[:, None] == i for i in range(len(kinds))], kinds).astype(np.float32)


def budgets(rng, rows, largest):
    """Budgets (rows,), float32, in [0, min(2, largest)], the special ones often."""
    special = rng.choice([0.0, 1e-6, 0.01, 0.5, 0.99, 1.0, 1.5, 2.0], rows)
    return np.minimum(np.where(rng.random(rows) < 0.7, special, rng.uniform(0, 2, rows)), largest).astype(np.float32)


def numpy_distance(name, probs, answers):
    """‖y − ỹ‖₁, ‖y − ỹ‖₂ or KL(y‖ỹ) of the rows in float64; what float32 cannot represent normally counts as zero."""
    y, z = probs.astype(np.float64), answers.astype(np.float64)
    if name == "L1":
        return np.abs(y - z).sum(1)
    if name == "L2":
        return np.sqrt(((y - z) ** 2).sum(1))
    y = np.where(y < np.finfo(np.float32).tiny, 0, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(y > 0, y * (np.log(y) - np.log(z)), 0)
    return np.maximum(terms.sum(1), 0)


def broken_promises(probs, answers, epsilon, *, distance, keep_argmax):
    """Count the rows of (B, K) that break each promise of `pp_jax.simplex.feasible`, in float64, by NumPy alone."""
    z = answers.astype(np.float64)
    spent = numpy_distance(distance, probs, answers)
    return {
        "never NaN": int((~np.isfinite(z)).any(1).sum()),
        "entries ≥ 0": int((z < 0).any(1).sum()),
        "|Σỹ − 1| ≤ 1e-6": int((np.abs(z.sum(1) - 1) > 1e-6).sum()),
        "dist(y, ỹ) ≤ ε + 1e-6": int((~(spent <= epsilon.astype(np.float64) + 1e-6)).sum()),
        "argmax ỹ = argmax y": int((z.argmax(1) != probs.argmax(1)).sum()) if keep_argmax else 0,
    }
