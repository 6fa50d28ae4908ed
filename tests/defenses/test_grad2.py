"""Gradient redirection: published numbers, the optimum, its directions, and what a direction must look like."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import MAD, gram, models
from pp_jax.defenses import GRAD2, grad2
from pp_jax.solvers import MinInner
from pp_jax.types import Query
from support import golden, hard_posteriors, linear_logits, linear_params

GOLDEN = golden("grad2")
CASES = [(int(k), name) for k in GOLDEN["Ks"] for name in ("random", "ones")]
KEY = jax.random.key(0)


def _mlp(params, image):
    """The published student: two dense layers."""
    hidden = jax.nn.relu(image.ravel() @ params["fc1"]["kernel"] + params["fc1"]["bias"])
    return hidden @ params["fc2"]["kernel"] + params["fc2"]["bias"]


def _golden_params(classes):
    """The student's parameters, float64."""
    return {f: {n: GOLDEN[f"K{classes}/params/{f}/{n}"] for n in ("kernel", "bias")} for f in ("fc1", "fc2")}


def _unflatten(z, params):
    """A direction that is stored layer by layer, kernels as (out, in)."""
    tree = {}
    for name in ("fc1", "fc2"):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        rows, z = z[: kernel.size].reshape(kernel.shape[::-1]).T, z[kernel.size :]
        tree[name], z = {"kernel": rows, "bias": z[: bias.size]}, z[bias.size :]
    return tree


def _answers(defense, y, x):
    """Answers to a batch."""
    return jax.jit(jax.vmap(lambda y, x: defense(y, Query(x, KEY))))(y, x)


@pytest.mark.parametrize(("classes", "name"), CASES)
def test_published_gains_answers_and_optimum(classes, name):
    stored = {key: GOLDEN[f"K{classes}/{name}/{key}"] for key in ("z", "c", "y_tilde", "lp_opt", "lp_opt_top1")}
    y, x, params = GOLDEN[f"K{classes}/y"], GOLDEN[f"K{classes}/x"][:, :, None, None], _golden_params(classes)
    with jax.enable_x64(True):
        direction = grad2.all_ones(params) if name == "ones" else _unflatten(stored["z"], params)
        defense = GRAD2(_mlp, params, 0.5, direction)
        np.testing.assert_allclose(jax.jit(jax.vmap(defense.gain))(y, x), stored["c"], rtol=0, atol=1e-10)
        kinds = ((False, stored["lp_opt"]), (True, stored["lp_opt_top1"]))
        for kept, optimum in kinds[: 2 if (classes, name) == (10, "random") else 1]:
            sweep = jax.vmap(lambda e, kept=kept: _answers(GRAD2(_mlp, params, e, direction, keep_argmax=kept), y, x))
            answers = np.asarray(sweep(jnp.asarray(GOLDEN["eps"])))
            spread = np.ptp(stored["c"], axis=1)
            error = np.abs((answers * stored["c"]).sum(-1) - optimum)
            assert (error <= (1e-9 if not kept else 1e-6) * spread).all()
            assert (np.abs(answers - y).sum(-1) <= GOLDEN["eps"][:, None] + 1e-12).all()
            if not kept:
                np.testing.assert_allclose(answers, stored["y_tilde"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("keep_argmax", [False, True])
def test_without_a_direction_it_is_the_minimum_inner_product(keep_argmax):
    network, params = linear_logits, linear_params(KEY, 9, 4)
    y = np.random.default_rng(0).dirichlet(np.ones(4), 40).astype(np.float32)
    x = np.random.default_rng(1).random((40, 3, 3, 1), np.float32)
    ours = np.asarray(_answers(GRAD2(network, params, 0.6, keep_argmax=keep_argmax), y, x))
    theirs = MAD(network, params, 0.6, solver=MinInner(keep_argmax), gram=gram.jacobian)
    np.testing.assert_allclose(ours, _answers(theirs, y, x), rtol=0, atol=1e-5)


def test_the_answer_moves_the_surrogate_further_along_the_direction_than_the_posterior_or_mad():
    params = linear_params(KEY, 9, 5)
    direction = grad2.all_ones(params)
    y = np.random.default_rng(0).dirichlet(np.ones(5), 64).astype(np.float32)
    x = np.random.default_rng(1).random((64, 3, 3, 1), np.float32)

    @jax.jit
    @jax.vmap
    def gradients(answer, image):
        return jax.grad(lambda p: answer @ jax.nn.log_softmax(linear_logits(p, image)))(params)

    def moved(answers):
        """⟨Gᵀỹ, z⟩ by reverse mode."""
        grads = gradients(answers, x)
        return sum(np.asarray(leaf).reshape(64, -1).sum(1) for leaf in jax.tree.leaves(grads))

    redirected = moved(_answers(GRAD2(linear_logits, params, 0.5, direction), y, x))
    assert (redirected >= moved(y) - 1e-5).all()
    assert (redirected >= moved(_answers(MAD(linear_logits, params, 0.5), y, x)) - 1e-5).all()


def test_a_watermark_direction_descends_the_loss_of_the_marked_batch():
    params = linear_params(KEY, 9, 5)
    images, labels = np.random.default_rng(0).random((8, 3, 3, 1), np.float32), np.arange(8) % 5
    direction = jax.jit(grad2.watermark, static_argnums=0)(linear_logits, params, images, labels)

    @jax.jit
    def loss(step):
        moved = jax.tree.map(lambda w, z: w + step * z, params, direction)
        logits = jax.vmap(linear_logits, (None, 0))(moved, images)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(8), labels])

    square = sum(np.sum(np.asarray(z) ** 2) for z in jax.tree.leaves(direction))
    np.testing.assert_allclose(jax.grad(loss)(0.0), -square, rtol=1e-5)


def test_running_statistics_are_not_moved():
    network = models.resnet18(3)
    params = jax.eval_shape(lambda: network.init(KEY, (8, 8, 1)))
    ones = jax.eval_shape(grad2.all_ones, params)
    assert jax.tree.structure(ones) == jax.tree.structure(params)
    tree = {"params": {"w": jnp.zeros(2)}, "batch_stats": {"mean": jnp.full(2, 7.0)}}
    marked = grad2.all_ones(tree)
    np.testing.assert_array_equal(marked["params"]["w"], [1, 1])
    np.testing.assert_array_equal(marked["batch_stats"]["mean"], [7, 7])


def test_uint8_images_and_half_precision_surrogates_are_taken():
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), linear_params(KEY, 9, 5))
    y = hard_posteriors(np.random.default_rng(0), 20, 5)
    x = np.full((20, 3, 3, 1), 200, np.uint8)
    assert np.isfinite(_answers(GRAD2(linear_logits, params, 0.5, grad2.all_ones(params)), y, x)).all()
    assert np.isfinite(_answers(GRAD2(linear_logits, params, 0.5), y, x)).all()


def test_what_does_not_fit_is_refused():
    params = linear_params(KEY, 9, 5)
    query = Query(jnp.zeros((3, 3, 1)), KEY)
    with pytest.raises(ValueError, match="epsilon must be at least 0 and at most 2 in L1, not 2\\.5"):
        GRAD2(linear_logits, params, 2.5)
    with pytest.raises(ValueError, match="must have the structure of the surrogate's parameters"):
        GRAD2(linear_logits, params, 0.5, params["params"])(jnp.full(5, 0.2), query)
    with pytest.raises(ValueError, match="network knows 5 classes, the victim's posterior has 4"):
        GRAD2(linear_logits, params, 0.5)(jnp.full(4, 0.25), query)
    with pytest.raises(ValueError, match="images and labels must be as many, at least 1: 2 and 3"):
        grad2.watermark(linear_logits, params, jnp.zeros((2, 3, 3, 1)), jnp.zeros(3, int))
