"""Mimicry: the published descent, step by step in NumPy, and what its density term is for."""

import jax
import numpy as np
import pytest

from pp_jax.attacks.evasion import L2Ball, MimicryDescent, craft
from support import linear_logits, linear_params

KEY = jax.random.key(0)
SIDE, K, H = 3, 3, 2.0


def _case():
    """A linear model, images of class 0, and references of class 1."""
    params = linear_params(KEY, SIDE * SIDE, K, scale=0.5)
    rng = np.random.default_rng(0)
    return params, *(rng.uniform(0, 1, (count, SIDE, SIDE, 1)).astype(np.float32) for count in (6, 20))


def _by_hand(kernel, image, label, references, *, radius, weight, step_size, steps):
    """The descent in float64 on the L2 ball, as the docstring has it."""
    start, flat = image.ravel().astype(float), references.reshape(len(references), -1).astype(float)

    def objective(x):
        z = x @ kernel
        other = np.where(np.arange(K) == label, -np.inf, z).argmax()
        kernels = np.exp(-np.abs(x - flat).sum(1) / H)
        value = z[label] - z[other] - weight * kernels.mean()
        slope = kernel[:, label] - kernel[:, other]
        return value, slope + weight * (kernels[:, None] * np.sign(x - flat)).mean(0) / H

    x = best = start
    value, gradient = objective(x)
    smallest = value
    for _ in range(steps):
        x = np.clip(x - step_size * gradient / np.linalg.norm(gradient), 0, 1)
        change = x - start
        x = start + change * min(1, radius / max(np.linalg.norm(change), 1e-12))
        value, gradient = objective(x)
        if value < smallest:
            best, smallest = x, value
    return best.reshape(image.shape)


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_it_is_the_published_descent(weight):
    params, images, references = _case()
    options = {"radius": 0.8, "weight": weight, "step_size": 0.07, "steps": 9}
    attack = MimicryDescent(references, bandwidth=H, ball=L2Ball(), **options)
    labels = np.array([0, 1, 2, 0, 1, 2])
    found = craft(KEY, attack, linear_logits, params, images, labels)
    kernel = np.asarray(params["params"]["kernel"], float)
    for image, label, mine in zip(images, labels, found, strict=True):
        np.testing.assert_allclose(mine, _by_hand(kernel, image, label, references, **options), atol=2e-5)


def _density(images, references):
    gaps = np.abs(images[:, None] - references[None]).sum((2, 3, 4))
    return np.exp(-gaps / H).mean(1)


def test_the_density_term_leads_to_where_the_references_are():
    params, images, references = _case()
    labels = np.zeros(len(images), int)

    def found(weight, steps=30):
        attack = MimicryDescent(references, radius=2.0, weight=weight, bandwidth=H, step_size=0.05, steps=steps)
        return craft(KEY, attack, linear_logits, params, images, labels)

    plain, mimicry = found(0.0), found(30.0)
    assert (_density(mimicry, references) > _density(plain, references)).all()
    for changed in (plain, mimicry):
        assert np.abs(changed - images).sum((1, 2, 3)).max() <= 2 + 1e-5
        assert changed.min() >= 0
        assert changed.max() <= 1
    assert (craft(KEY, MimicryDescent(steps=30), linear_logits, params, images, labels) != images).any()


def test_a_flat_discriminant_is_left_by_the_density_alone():
    params = jax.tree.map(np.zeros_like, _case()[0])
    _, images, references = _case()
    labels = np.zeros(len(images), int)
    stuck, moved = (
        craft(KEY, MimicryDescent(references, weight=w, bandwidth=H), linear_logits, params, images, labels)
        for w in (0.0, 1.0)
    )
    assert _density(moved, references).mean() > _density(images, references).mean()
    assert _density(moved, references).mean() > _density(stuck, references).mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 1.0}, "weight is 1: must be 0 without references; give references=images"),
        ({"weight": -1.0}, "weight must be at least 0"),
        ({"radius": 0.0}, "radius must be above 0"),
        ({"bandwidth": 0.0}, "bandwidth must be above 0"),
        ({"step_size": 0.0}, "step_size must be above 0"),
        ({"steps": 0}, "steps must be"),
        ({"references": np.zeros((2, 3, 3))}, r"references must have shape \(B, H, W, C\)"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MimicryDescent(**options)
