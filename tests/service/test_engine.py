"""The engine: padded batches of several accounts, each remembered by itself, the same bytes in any batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smallworld
from pp_jax import Top1, chain, detection
from pp_jax.defenses import RandomNoise
from pp_jax.detection import Blocked, Policy
from pp_jax.service.assembly import Nothing, _Look
from pp_jax.service.engine import Engine, _answered
from pp_jax.service.memory import packed, unpacked

KEY = jax.random.key(3)


def images(count):
    return smallworld.test_images().images[:count].astype(np.float32) / 255


@functools.cache
def parts():
    victim = smallworld.victim()
    watcher = detection.LabelMMD(jnp.full(4, 0.25), window=4)
    actions = (chain(), Top1(), Blocked())
    return victim, Policy(watcher, (0.2, 0.7), actions, victim.network.features, victim.params)


def engine(policy=None, sizes=(4, 16)):
    victim, watched = parts()
    return Engine(_Look(victim.network), victim.params, policy or watched, KEY, (8, 8, 1), 4, sizes)


def random_policy():
    victim = smallworld.victim()
    return Policy(Nothing(), (), (RandomNoise(0.5),), victim.network.features, victim.params)


def test_the_same_image_has_the_same_bytes_in_any_batch_and_place():
    made = engine(random_policy())
    pictures = images(16)
    whole = made.answer(pictures, ["a"] * 16).responses
    for start in range(16):
        alone = made.answer(pictures[start : start + 1], ["b"]).responses
        assert alone.tobytes() == whole[start : start + 1].tobytes()
    turned = made.answer(pictures[::-1], ["c"] * 16).responses[::-1]
    assert turned.tobytes() == whole.tobytes()
    assert engine(random_policy()).answer(pictures[:5], ["a"] * 5).responses.tobytes() == whole[:5].tobytes()


def test_accounts_in_one_batch_are_watched_as_if_alone():
    pictures = images(16)
    together, alone = engine(), engine()
    names = ["a" if row % 3 else "b" for row in range(16)]
    mixed = together.answer(pictures, names)
    for name in ("a", "b"):
        rows = [row for row in range(16) if names[row] == name]
        own = alone.answer(pictures[rows], [name] * len(rows))
        np.testing.assert_array_equal(mixed.bands[rows], own.bands)
        np.testing.assert_allclose(mixed.scores[rows], own.scores, atol=1e-6)
        np.testing.assert_array_equal(mixed.responses[rows], own.responses)
        jax.tree.map(np.testing.assert_array_equal, together.state(name), alone.state(name))


def test_padding_and_nobody_are_not_remembered():
    made = engine()
    made.answer(images(5), ["a", None, None, "a", None])
    assert made.accounts == ("a",)
    assert made.state("a").answered.sum() == 2


def test_a_band_answers_by_its_action():
    made = engine()
    seen = detection.observe(smallworld.network(), smallworld.victim().params, smallworld.test_images().images)
    same = np.flatnonzero(np.argmax(seen.probs, axis=1) == 2)[:8]
    pictures = smallworld.test_images().images[same].astype(np.float32) / 255
    found = made.answer(pictures, ["a"] * 8)
    np.testing.assert_allclose(found.responses[:3], found.probs[:3], atol=1e-6)
    np.testing.assert_allclose(found.responses[3:], 0.25, atol=1e-6)
    assert found.bands.tolist() == [0, 0, 0, 2, 2, 2, 2, 2]


def test_a_batch_size_is_compiled_once():
    made = engine()
    made.warm()
    before = _answered._cache_size()
    made.answer(images(3), ["a", "b", "c"])
    made.answer(images(16), ["a"] * 16)
    assert _answered._cache_size() == before


def test_a_memory_survives_as_bytes_and_another_detectors_is_not_taken():
    made = engine()
    made.answer(images(6), ["a"] * 6)
    state = made.state("a")
    jax.tree.map(np.testing.assert_array_equal, unpacked(packed(state), made.state(None)), state)
    assert unpacked(packed(engine(random_policy()).state(None)), made.state(None)) is None
    assert unpacked(b"no archive", made.state(None)) is None
    assert unpacked(packed(state)[:-40], made.state(None)) is None


def test_posteriors_from_elsewhere_are_defended_too():
    victim, policy = parts()
    behind = Engine(None, None, policy, KEY, (8, 8, 1), 4, (4,))
    probs = np.full((2, 4), 0.25, np.float32)
    found = behind.answer(images(2), ["a", "a"], probs=probs)
    np.testing.assert_allclose(found.responses, probs)
    assert victim is smallworld.victim()


@pytest.mark.parametrize("sizes", [(), (4, 6), (8, 4), (0, 4)])
def test_sizes_that_are_no_multiples_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be rising multiples of the first"):
        engine(sizes=sizes)
