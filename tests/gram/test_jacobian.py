"""Gram matrices of a convolutional net against torch.autograd's (tests/golden/mad_full_gram.npz), and MAD on them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import distance, gram, oracle
from pp_jax.gram import jacobian
from pp_jax.solvers.heuristic import LineSearch
from support import golden, linear_logits, linear_params

FILE = golden("mad_full_gram")
NETS = {"valid": "VALID", "same": "SAME"}
LAYERS = ("conv1", "conv2", "fc1", "fc2")
DTYPES = ["float64", "float32"]


def _weights(net, dtype):
    """The stored parameters of a net as a pytree."""
    part = f"{net}/params"
    return {n: {w: jnp.asarray(FILE[f"{part}/{n}/{w}"], dtype) for w in ("kernel", "bias")} for n in LAYERS}


def _features(params, image, *, padding):
    """Input of the last layer: two convolutions with ReLU and pooling, and a dense layer."""
    x = image[None]
    for name in ("conv1", "conv2"):
        x = jax.lax.conv_general_dilated(
            x, params[name]["kernel"], (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + params[name]["bias"].reshape(1, 1, 1, -1))
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.relu(x.ravel() @ params["fc1"]["kernel"] + params["fc1"]["bias"])


def _logits(params, image, *, padding):
    """Logits of the net."""
    return _features(params, image, padding=padding) @ params["fc2"]["kernel"] + params["fc2"]["bias"]


@functools.cache
def _grams(net, dtype):
    """The library's Gram matrices and logits of the stored images, by the names of the file."""
    features, logits = (functools.partial(f, padding=NETS[net]) for f in (_features, _logits))

    def one(params, x):
        last = functools.partial(gram.last_layer, logits, params, x, features_fn=features)
        return {
            "logits": logits(params, x),
            "all": jacobian(logits, params, x),
            "last_w": last().matrix(),
            "last_wb": last(bias=True).matrix(),
            "jacobian_last_w": jacobian(logits, params, x, where=lambda name: name == "fc2/kernel"),
            "per_param": {n: jacobian(logits, params, x, where=n.__eq__) for n in _names(net)},
        }

    with jax.enable_x64(dtype == "float64"):
        images = jnp.asarray(FILE[f"{net}/x"], dtype)
        return jax.tree.map(np.asarray, jax.jit(jax.vmap(one, (None, 0)))(_weights(net, dtype), images))


def _names(net):
    """The parameter names of the file as paths."""
    return [str(name).replace(".", "/") for name in FILE[f"{net}/param_names"]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("net", NETS)
def test_gram_matrices_agree_with_autograd(net, dtype):
    found = _grams(net, dtype)
    tight = {"rtol": 1e-10, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(found["logits"], FILE[f"{net}/logits"], **tight)
    for name in ("all", "last_w", "last_wb"):
        np.testing.assert_allclose(found[name], FILE[f"{net}/{name}/gram"], **tight, err_msg=name)
    np.testing.assert_allclose(found["jacobian_last_w"], FILE[f"{net}/last_w/gram"], **tight)


@pytest.mark.parametrize("net", NETS)
def test_every_parameter_contributes_its_own_gram_matrix(net):
    found = _grams(net, "float64")
    for name, expected in zip(_names(net), FILE[f"{net}/gram_per_param"], strict=True):
        np.testing.assert_allclose(found["per_param"][name], expected, rtol=1e-10, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(sum(found["per_param"].values()), found["all"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["all", "last_w", "last_wb"])
@pytest.mark.parametrize("net", NETS)
def test_mad_on_a_gram_matrix_gives_the_published_answer(net, form, dtype):
    with jax.enable_x64(dtype == "float64"):
        y, eps = jnp.asarray(FILE[f"{net}/y"], dtype), jnp.asarray(FILE["eps"], dtype)
        for name in ("extreme", "argmax"):
            answers = _mad(y, jnp.asarray(_grams(net, dtype)[form], dtype), eps, name=name)
            key = f"{net}/{form}/{name}"
            rows = FILE[f"{key}/gap"] > (1e-8 if dtype == "float64" else 1e-4)
            np.testing.assert_allclose(
                np.asarray(answers)[:, rows],
                FILE[f"{key}/y_tilde"][:, rows],
                rtol=0,
                atol=1e-7 if dtype == "float64" else 1e-5,
            )


@functools.partial(jax.jit, static_argnames="name")
def _mad(y, matrices, eps, *, name):
    """Answers (E, N, K) of the paper's heuristic in L1."""
    solver = LineSearch(oracle.extreme if name == "extreme" else oracle.argmax_preserving)
    one = lambda y, m, e: solver(y, m, epsilon=e, distance=distance.L1(), key=None)  # noqa: E731
    return jax.vmap(jax.vmap(one, (0, 0, None)), (None, None, 0))(y, matrices, eps)


@pytest.mark.parametrize("net", NETS)
def test_answers_over_all_parameters_are_those_of_a_second_published_code(net):
    with jax.enable_x64(True):
        answers = _mad(
            jnp.asarray(FILE[f"{net}/y"]),
            jnp.asarray(_grams(net, "float64")["all"]),
            jnp.asarray(FILE["eps"]),
            name="extreme",
        )
    rows = FILE[f"{net}/all/extreme/gap"] > 1e-8
    np.testing.assert_allclose(
        np.asarray(answers)[:, rows], FILE[f"{net}/all/g2_orekondy_y_tilde"][:, rows], rtol=0, atol=1e-7
    )


def test_running_statistics_are_not_parameters():
    def logits(params, image):
        return params["params"]["w"] @ image.ravel() - params["batch_stats"]["mean"]

    params = {"params": {"w": jnp.ones((3, 4))}, "batch_stats": {"mean": jnp.zeros(3)}}
    image = jnp.arange(4.0).reshape(2, 2, 1)
    with_statistics = jacobian(logits, params, image, where=lambda name: True)
    assert not np.allclose(jacobian(logits, params, image), with_statistics)
    only_weights = jacobian(logits, params, image, where=lambda name: name == "params/w")
    np.testing.assert_array_equal(jacobian(logits, params, image), only_weights)


def test_a_choice_of_no_parameter_is_refused_by_name():
    params = linear_params(jax.random.key(0), 4, 3)
    with pytest.raises(
        ValueError, match=r"`where` must pick at least one of the parameters params/bias, params/kernel"
    ):
        jacobian(linear_logits, params, jnp.zeros((2, 2, 1)), where=lambda name: "Dense_7" in name)


def test_bfloat16_weights_give_a_float32_matrix():
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), linear_params(jax.random.key(0), 4, 3))
    matrix = jacobian(linear_logits, params, jnp.ones((2, 2, 1), jnp.bfloat16))
    assert matrix.dtype == jnp.float32
    assert np.isfinite(matrix).all()
