"""The PyTorch baseline of the benchmarks computes what the published code computes, on the networks of the zoo."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pp_jax import MAD, BlackBox, models  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SURROGATES = ("init", "sharp")


@pytest.fixture(scope="module")
def reference():
    """The module under test; one thread, since its tensors are tiny."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import torch_reference

    yield torch_reference
    sys.path.remove(str(ROOT / "benchmarks"))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def golden():
    """The vectors made by running the published code."""
    with np.load(Path(__file__).parents[1] / "golden" / "mad_last_layer.npz") as file:
        return {key: file[key] for key in file.files}


def _head(golden, prefix):
    """The last layer of the golden network, as a network whose features are its input."""
    kernel, bias = golden[f"{prefix}/w_last"], golden[f"{prefix}/b_last"]
    last = torch.nn.Linear(*kernel.shape, dtype=torch.float64)
    with torch.no_grad():
        last.weight.copy_(torch.tensor(kernel.T.copy()))
        last.bias.copy_(torch.tensor(bias))
    return last


def _network(reference, last):
    """`last` behind a body that passes its input on."""
    network = reference.Network()
    network.features = lambda images: images
    network.last = last
    return network


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_jacobian_is_that_of_the_published_code(reference, golden, surrogate):
    compared = 0
    for classes in (k for k in golden["Ks"] if k <= 10):
        prefix = f"K{classes}/{surrogate}"
        network = _network(reference, _head(golden, prefix))
        for features, expected in zip(golden[f"{prefix}/h"], golden[f"{prefix}/G"], strict=True):
            found = reference.jacobian(network, torch.tensor(features))
            # The published rows are gradients of the negative log-likelihood, in (input, output) order here: (K, K, F).
            np.testing.assert_allclose(-found.numpy().reshape(expected.shape), expected, rtol=0, atol=1e-12)
            compared += 1
    assert compared > 0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["extreme", "argmax_preserving"])
def test_oracles_and_line_search_agree_with_the_published_code(reference, golden, name, dtype):
    """y* and ỹ where the choice is not decided by rounding (`gap`), the objective everywhere."""
    key = {"extreme": "extreme_obj1", "argmax_preserving": "argmax_obj1"}[name]
    gap, value, point = {"float64": (1e-8, 1e-6, 1e-7), "float32": (1e-4, 2e-4, 1e-5)}[dtype]
    compared = 0
    for classes in golden["Ks"]:
        for surrogate in SURROGATES:
            prefix = f"K{classes}/{surrogate}"
            for row, gradients in enumerate(_gradients(reference, golden, prefix)):
                probs = torch.tensor(golden[f"K{classes}/y"][row]).to(getattr(torch, dtype))
                choice = getattr(reference, name)(probs, gradients.to(probs.dtype))
                # Where p is almost y, float32 cannot tell the clean gradient from zero.
                if dtype == "float64" or np.linalg.norm(golden[f"{prefix}/p"][row] - probs.numpy()) > 1e-2:
                    assert choice.value == pytest.approx(golden[f"{prefix}/{key}/oracle_val"][row], abs=value)
                if golden[f"{prefix}/{key}/gap"][row] <= gap:
                    continue
                compared += 1
                np.testing.assert_allclose(choice.target, golden[f"{prefix}/{key}/y_star"][row], rtol=0, atol=point)
                for epsilon, expected in zip(
                    golden[f"{prefix}/{key}/l1/eps"], golden[f"{prefix}/{key}/l1/y_tilde"], strict=True
                ):
                    answer = reference.line_search(probs, choice.target, float(epsilon))
                    np.testing.assert_allclose(answer, expected[row], rtol=0, atol=point)
    assert compared > 80


def _gradients(reference, golden, prefix):
    """The Jacobian of every golden query, (K, K·F)."""
    network = _network(reference, _head(golden, prefix))
    return [reference.jacobian(network, torch.tensor(features)) for features in golden[f"{prefix}/h"]]


def _trained(variables, seed):
    """Variables whose every entry differs from its initial value, so that no exchange goes unnoticed."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: np.asarray(leaf * random.uniform(0.8, 1.2, leaf.shape), np.float32), variables)


CASES = [
    pytest.param(models.lenet(7), "LeNet", (28, 28, 1), id="LeNet"),
    pytest.param(models.vgg16_bn(20), "VGG16BN", (32, 32, 3), id="VGG16BN", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("network", "name", "shape"), CASES)
def test_networks_with_the_same_weights_give_the_same_logits(reference, network, name, shape):
    variables = _trained(network.init(jax.random.key(0), shape), seed=0)
    images = np.random.default_rng(1).random((3, *shape), np.float32)
    theirs = reference.twin(network, variables)
    assert type(theirs) is getattr(reference, name)
    with torch.no_grad():
        found = theirs(reference.pixels(images)).numpy()
    expected = np.asarray(jax.jit(jax.vmap(network, (None, 0)))(variables, images))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["extreme", "argmax_preserving"])
def test_a_query_gets_the_answer_of_the_library(reference, name):
    network = models.lenet(10)
    victim, surrogate = (_trained(network.init(jax.random.key(i), (28, 28, 1)), seed=i) for i in (1, 2))
    images = np.random.default_rng(3).random((4, 28, 28, 1), np.float32)
    make = {"extreme": MAD, "argmax_preserving": MAD.argmax_preserving}[name]
    ours, _ = BlackBox(network, victim, make(network, surrogate, 0.9))(images)
    networks = [reference.twin(network, variables) for variables in (victim, surrogate)]
    for image, expected in zip(reference.pixels(images), np.asarray(ours), strict=True):
        found = reference.answer(*networks, image, oracle=getattr(reference, name), epsilon=0.9)
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-4)


def test_other_weights_are_refused(reference):
    variables = models.lenet(10).init(jax.random.key(0), (28, 28, 1))
    with pytest.raises(ValueError, match="must have 27 layers, not 4"):
        reference.load(reference.VGG16BN(10), variables)
