"""`all_layers` is `jacobian`, for every layer and every way to use one, without the Jacobian's memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nets
from pp_jax import gram, models
from pp_jax.gram.contractions import by_positions
from pp_jax.gram.survey import survey
from support import golden, linear_logits, linear_params, quick


def randomised(network, image_shape, dtype):
    """Variables of a network with no zero, one or tie left in them, variances positive."""
    variables = jax.jit(network.init, static_argnums=1)(jax.random.key(0), image_shape)
    rng = np.random.default_rng(1)
    shifted = lambda leaf: np.abs(np.asarray(leaf) + 0.1 * rng.normal(size=leaf.shape))  # noqa: E731
    return jax.tree.map(lambda leaf: jnp.asarray(shifted(leaf), dtype), variables)


def problem(body, dtype, side=12):
    """A network made of `body`, its parameters and an image."""
    network = models.Network(nets.Net(body))
    params = randomised(network, (side, side, 1), dtype)
    signs = np.random.default_rng(2)
    params["params"] = jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf) * signs.choice([-1.0, 1.0], leaf.shape), dtype), params["params"]
    )
    return network, params, jnp.asarray(np.random.default_rng(3).random((side, side, 1)), dtype)


def both(network, params, image, **options):
    """The Gram matrix by layers, and the reference."""
    functions = (gram.all_layers, gram.jacobian)
    return jax.jit(lambda x: [f(network, params, x, **options) for f in functions])(image)


def assert_same(actual, expected, rtol):
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("body", quick(nets.BODIES, 3, 6), ids=lambda body: body.__name__)
def test_is_the_jacobian_in_float64(body):
    with jax.enable_x64(True):
        assert_same(*both(*problem(body, jnp.float64)), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("body", [nets.convolutions, nets.batch_norm, nets.shared], ids=lambda body: body.__name__)
def test_is_the_jacobian_in_float32(body):
    assert_same(*both(*problem(body, jnp.float32)), rtol=1e-4)


@pytest.mark.slow
def test_lenet_in_float32_and_for_bytes():
    network = models.lenet(10)
    params = jax.jit(network.init, static_argnums=1)(jax.random.key(0), (28, 28, 1))
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    expected = jax.jit(jax.vmap(functools.partial(gram.jacobian, network, params)))(images)
    layerwise = jax.jit(jax.vmap(functools.partial(gram.all_layers, network, params)))
    assert_same(layerwise(images), expected, rtol=1e-4)
    assert_same(layerwise(np.float32(images) / np.float32(255)), expected, rtol=1e-4)


@pytest.mark.slow
def test_bfloat16_parameters_are_summed_in_float32():
    network, params, image = problem(nets.batch_norm, jnp.float32)
    halves = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    # The images are float32: what is rounded to bfloat16 are the parameters, and their gradients in `jacobian` alone.
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), halves)
    actual = gram.all_layers(network, halves, image)
    assert_same(actual, gram.jacobian(network, wide, image), rtol=2e-2)


@pytest.mark.parametrize("net", quick(["valid", "same"], 0))
def test_golden_numbers_of_an_independent_library(net):
    data = golden("mad_full_gram")
    names = [str(name) for name in data[f"{net}/param_names"]]

    def body(module, x):
        del module
        for name, width in (("conv1", 4), ("conv2", 8)):
            x = nets.nn.Conv(width, (3, 3), padding=net.upper(), name=name)(x)
            x = nets.nn.max_pool(nets.nn.relu(x), (2, 2), (2, 2))
        x = nets.nn.relu(nets.nn.Dense(32, name="fc1")(x.reshape(x.shape[0], -1)))
        return nets.nn.Dense(10, name="fc2")(x)

    with jax.enable_x64(True):
        network = models.Network(nets.Net(body))
        params = {"params": {}}
        for name in names:
            layer, kind = name.split("/")
            params["params"].setdefault(layer, {})[kind] = jnp.asarray(data[f"{net}/params/{name}"])
        images = jnp.asarray(data[f"{net}/x"])

        def grams(*wheres):
            one = lambda image: jnp.stack([gram.all_layers(network, params, image, where=where) for where in wheres])  # noqa: E731
            return jax.jit(jax.vmap(one, out_axes=1))(images)

        each = grams(*(f"params/{name}".__eq__ for name in names))
        np.testing.assert_allclose(each, data[f"{net}/gram_per_param"], rtol=1e-10, atol=1e-12)
        whole = grams(gram.trainable, lambda path: path == "params/fc2/kernel", lambda path: "fc2" in path)
    for actual, subset in zip(whole, ("all", "last_w", "last_wb"), strict=True):
        np.testing.assert_allclose(actual, data[f"{net}/{subset}/gram"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("part", ["kernel", "bias", "Conv_0", "LayerNorm_0/scale", "embedding", "Dense_0"])
def test_any_subset_of_parameters(part):
    with jax.enable_x64(True):
        assert_same(*both(*problem(nets.shared, jnp.float64), where=lambda path: part in path), rtol=1e-10)


@pytest.mark.slow
def test_the_grams_of_disjoint_subsets_add_up():
    with jax.enable_x64(True):
        network, params, image = problem(nets.unknown, jnp.float64)
        parts = [lambda path: "kernel" in path, lambda path: "kernel" not in path, gram.trainable]
        few, rest, whole = (gram.all_layers(network, params, image, where=where) for where in parts)
        assert_same(few + rest, whole, rtol=1e-12)


def known(body):
    """Paths of the parameters of `body` that are contracted, and those that are differentiated in full."""
    network, params, image = problem(body, jnp.float32)
    found = survey(network, params, image).known
    paths = jax.tree.leaves_with_path({"params": params["params"]})
    return found, {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths} - found


@pytest.mark.parametrize(
    "body", quick([f for f in nets.BODIES if f not in nets.NOT_ALL_KNOWN], 1), ids=lambda body: body.__name__
)
def test_ordinary_layers_never_need_the_fallback(body):
    assert not known(body)[1]


@pytest.mark.parametrize(
    ("body", "expected"), quick(nets.NOT_ALL_KNOWN.items(), 0), ids=lambda value: getattr(value, "__name__", "")
)
def test_a_parameter_with_another_use_or_an_unknown_layer_is_differentiated_in_full(body, expected):
    assert {path.removeprefix("params/") for path in known(body)[0]} == expected


def test_a_network_that_reports_nothing_goes_through_the_jacobian():
    params = linear_params(jax.random.key(0), 16, 3)
    image = np.random.default_rng(1).random((4, 4, 1), np.float32)
    functions = (gram.all_layers, gram.jacobian)
    by_layers, reference = (jax.jit(f, static_argnums=0)(linear_logits, params, image) for f in functions)
    np.testing.assert_array_equal(by_layers, reference)


@pytest.mark.parametrize("name", ["vgg16_bn", "resnet18"])
def test_no_array_is_as_large_as_the_jacobian(name):
    """K·D is 100 × 11 to 15 million: nothing that is computed has a tenth of it."""
    network = getattr(models, name)(100)
    params = jax.eval_shape(lambda key: network.init(key, (32, 32, 3)), jax.random.key(0))
    image = jax.ShapeDtypeStruct((32, 32, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(functools.partial(gram.all_layers, network))(params, image)
    assert largest(jaxpr.jaxpr) < 100 * sum(leaf.size for leaf in jax.tree.leaves(params["params"])) / 10


def largest(jaxpr):
    """The number of entries of the largest array that a program computes."""
    sizes = [var.aval.size for equation in jaxpr.eqns for var in equation.outvars]
    inner = [value for equation in jaxpr.eqns for value in jax.tree.leaves(equation.params, is_leaf=is_program)]
    return max(sizes + [largest(getattr(value, "jaxpr", value)) for value in inner if is_program(value)], default=0)


def is_program(value):
    """Whether a parameter of an equation is a program of its own."""
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


@pytest.mark.slow
def test_a_batch_takes_hardly_more_memory_than_an_image():
    network = models.vgg16_bn(100)
    params = jax.eval_shape(lambda key: network.init(key, (32, 32, 3)), jax.random.key(0))
    batched = jax.jit(jax.vmap(functools.partial(gram.all_layers, network), in_axes=(None, 0)))

    def temporary(batch):
        images = jax.ShapeDtypeStruct((batch, 32, 32, 3), jnp.float32)
        return batched.lower(params, images).compile().memory_analysis().temp_size_in_bytes

    assert temporary(16) < 2**31


@pytest.mark.slow
def test_an_answer_does_not_depend_on_the_batch():
    """The loop runs the same program for every image: equal to the last bit, beside whatever other images."""
    network = models.lenet(10)
    params = jax.jit(network.init, static_argnums=1)(jax.random.key(0), (28, 28, 1))
    layerwise = jax.jit(jax.vmap(functools.partial(gram.all_layers, network, params)))
    images = jax.random.uniform(jax.random.key(2), (5, 28, 28, 1))
    alone = layerwise(jnp.stack([images[0], images[1]]))[0]
    np.testing.assert_array_equal(layerwise(images)[0], alone)
    np.testing.assert_array_equal(layerwise(images[::-1])[-1], alone)


@pytest.mark.slow
def test_a_stack_of_surrogates_maps_with_its_images():
    network = models.Network(nets.Net(nets.sequences))
    keys = jax.random.split(jax.random.key(0), 3)
    params = jax.vmap(lambda key: network.init(key, (12, 12, 1)))(keys)
    images = jax.random.uniform(jax.random.key(1), (3, 12, 12, 1))
    one = functools.partial(gram.all_layers, network)
    expected = jnp.stack([one(jax.tree.map(lambda leaf: leaf[i], params), images[i]) for i in range(3)])  # noqa: B023
    assert_same(jax.vmap(one)(params, images), expected, rtol=1e-5)
    crossed = jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(params, images)
    assert_same(crossed[jnp.arange(3), jnp.arange(3)], expected, rtol=1e-5)


@pytest.mark.slow
def test_the_kernel_of_the_matrix_is_the_posterior():
    """M p = 0 (the score has mean zero), M is symmetric and positive semi-definite."""
    with jax.enable_x64(True):
        network, params, image = problem(nets.residual, jnp.float64)
        matrix = gram.all_layers(network, params, image)
        posterior = jax.nn.softmax(network(params, image))
        scale = jnp.abs(matrix).max()
        assert jnp.abs(matrix @ posterior).max() < 1e-12 * scale
        assert jnp.abs(matrix - matrix.T).max() < 1e-12 * scale
        assert jnp.linalg.eigvalsh(matrix).min() > -1e-12 * scale


def test_a_subset_without_parameters_is_refused_by_name():
    network, params, image = problem(nets.sequences, jnp.float32)
    with pytest.raises(ValueError, match=r"`where` must pick at least one of the parameters .*params/Dense_0/kernel"):
        gram.all_layers(network, params, image, where=lambda path: "absent" in path)


@pytest.mark.parametrize(
    ("classes", "positions", "fan_in", "fan_out", "expected"),
    [
        (10, 1, 800, 500, True),  # dense: one inner product instead of K kernels
        (10, 64, 500, 50, True),  # LeNet's second convolution
        (10, 576, 25, 20, False),  # LeNet's first: few weights, many positions
        (100, 1024, 576, 64, False),  # VGG's second
        (100, 4, 4608, 512, True),  # VGG's last
    ],
)
def test_the_cheaper_contraction_is_chosen(classes, positions, fan_in, fan_out, expected):
    assert by_positions(classes, positions, fan_in, fan_out) is expected
