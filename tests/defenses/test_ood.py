"""The gate: how rarely it takes the victim's own images for strange, and how often others."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import novelty
from support import blobs, linear_logits, linear_params


@dataclasses.dataclass(frozen=True)
class Victim:
    """A linear network; its features are the pixels."""

    def __call__(self, params, image):
        return linear_logits(params, image)

    def features(self, params, image):
        del params
        return image.ravel()


@pytest.fixture(scope="module")
def gate():
    images, labels = blobs(1, 2000)
    return novelty.fit(Victim(), linear_params(jax.random.key(0), 36, 4), images, labels)


def _levels(gate, images):
    """Levels of significance of images."""

    def one(image):
        return gate.level(jax.nn.softmax(linear_logits(gate.params, image)), image)

    return np.asarray(jax.jit(jax.vmap(one))(images))


def test_a_share_q_of_genuine_images_is_below_q(gate):
    levels = _levels(gate, blobs(2, 4000)[0])
    for share in (0.02, 0.1, 0.3):
        assert abs((levels < share).mean() - share) < 0.04


def test_images_of_another_distribution_are_strange(gate):
    other = np.random.default_rng(3).random((500, 6, 6, 1), np.float32)
    assert (_levels(gate, other) < 0.02).mean() > 0.95


def test_scores_and_levels_are_those_by_hand(gate):
    images = blobs(4, 50)[0]
    scores = []
    for image in images:
        apart = image.ravel() @ np.asarray(gate.whitening) - np.asarray(gate.means)
        rest = image.ravel() - np.asarray(gate.centre)
        rest -= np.asarray(gate.components) @ (rest @ np.asarray(gate.components))
        probs = jax.nn.softmax(linear_logits(gate.params, jnp.asarray(image)))
        scores.append([1 - float(probs.max()), (apart**2).sum(1).min(), (rest**2).sum()])
        np.testing.assert_allclose(gate.scores(probs, jnp.asarray(image)), scores[-1], rtol=1e-3, atol=1e-6)
    familiar, count = np.asarray(gate.familiar), gate.familiar.shape[1]

    def strangest(scores):
        return np.array([min((familiar >= np.array(one)[:, None]).sum(1)) / count for one in scores])

    expected = [(np.asarray(gate.least) <= least + 1e-6).mean() for least in strangest(scores)]
    assert np.abs(_levels(gate, images) - expected).max() <= 4 / count
    assert gate.components.shape == (36, 18)


def test_what_the_victim_is_sure_of_is_strange_where_its_pixels_are():
    images, labels = blobs(1, 2000)
    params = linear_params(jax.random.key(0), 36, 4)
    flat = images.copy()
    flat[:, :, 3:] = 0.5  # half of every image is always grey
    gate = novelty.fit(Victim(), params, flat, labels)
    other = flat[:200].copy()
    other[:, 0, 5] = 1.0
    assert (_levels(gate, other) < 0.02).mean() > 0.95
    assert (_levels(gate, flat[:200]) < 0.02).mean() < 0.06


def test_missing_classes_and_labels_are_refused():
    images, labels = blobs(1, 40)
    params = linear_params(jax.random.key(0), 36, 4)
    with pytest.raises(ValueError, match="as many labels as images, at least 4, not 39 and 40"):
        novelty.fit(Victim(), params, images, labels[:39])
    with pytest.raises(ValueError, match=r"among the first 20 images, but \[3\] are not"):
        novelty.fit(Victim(), params, images, np.where(labels == 3, 0, labels))
