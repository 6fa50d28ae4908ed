"""Other authors' names for the same layers are understood, and so are wrappers that normalise pixels themselves."""

import jax
import numpy as np
import pytest

from pp_jax import models
from pp_jax.models import torch_names, torch_wrapped

LENET = models.lenet(3)
SHAPES = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 50), "fc2": (3, 500)}
SMALL = (16, 16, 1)
NAMES = torch_names.expected_names(LENET, SMALL)


def state(seed=0):
    """A state dict of a LeNet for 16×16 images."""
    rng = np.random.default_rng(seed)
    weights = {f"{layer}.weight": rng.normal(size=shape).astype(np.float32) for layer, shape in SHAPES.items()}
    return weights | {f"{layer}.bias": rng.normal(size=shape[0]).astype(np.float32) for layer, shape in SHAPES.items()}


def behind(prefix, tensors):
    return {prefix + name: value for name, value in tensors.items()}


def fit(tensors, **options):
    return torch_wrapped.fit(tensors, LENET, NAMES, **options)


def assert_state(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("prefix", ["", "victim.", "1.", "lit.classifier."])
def test_the_weights_are_found_behind_any_prefix(prefix):
    assert_state(fit(behind(prefix, state())).state, state())


@pytest.mark.parametrize(
    ("normaliser", "prefix"),
    [
        (("0.mean", "0.std"), "1."),
        (("normalize.mean", "normalize.std"), "model."),
        (("normalizer.new_mean", "normalizer.new_std"), "model."),
        (("mu", "sigma"), "model."),
        (("mean", "std"), ""),
    ],
)
@pytest.mark.parametrize("shape", [(1,), (1, 1, 1, 1)])
def test_the_normaliser_of_the_file_is_its_normalisation(normaliser, prefix, shape):
    values = {name: np.full(shape, v, np.float32) for name, v in zip(normaliser, (0.1307, 0.3081), strict=True)}
    fitted = fit({**values, **behind(prefix, state())})
    assert_state(fitted.state, state())
    assert (fitted.mean, fitted.std) == ((0.1307,), (0.3081,))


def test_a_normaliser_of_pixels_up_to_255_is_scaled():
    values = {"0.mean": np.array([123.675, 116.28, 103.53]), "0.std": np.array([58.395, 57.12, 57.375])}
    fitted = fit({**values, **behind("1.", state())})
    np.testing.assert_allclose(fitted.mean, (0.485, 0.456, 0.406), rtol=1e-6)
    np.testing.assert_allclose(fitted.std, (0.229, 0.224, 0.225), rtol=1e-6)


def test_a_normaliser_that_divides_by_255_alone_changes_nothing():
    values = {"0.mean": np.zeros(1), "0.std": np.full(1, 255.0)}
    fitted = fit({**values, **behind("1.", state()), "n_averaged": np.array(3)})
    assert (fitted.mean, fitted.std) == ((0.0,), (1.0,))
    assert_state(fitted.state, state())


def test_a_wrapper_that_holds_the_model_twice_is_read_once():
    pixels = {"normalizer.new_mean": np.zeros(1), "attacker.normalize.new_mean": np.zeros(1)}
    fitted = fit({**behind("model.", state()), **behind("attacker.model.", state()), **pixels})
    assert_state(fitted.state, state())
    assert (fitted.mean, fitted.std) == ((0.0,), None)


def test_of_two_networks_one_must_be_chosen():
    both = {**behind("student.", state(0)), **behind("teacher.", state(1)), "loss.weight": np.ones(3)}
    with pytest.raises(ValueError, match=r"2 such networks: choose one with --prefix (student|teacher)\. or"):
        fit(both)
    assert_state(fit(both, prefix="teacher.").state, state(1))
    with pytest.raises(ValueError, match=r"no name that begins with 'ema\.', but student\.conv1\.weight"):
        fit(both, prefix="ema.")


def test_what_is_neither_network_nor_normaliser_is_refused():
    odd = {"loss.weight": np.ones(3, np.float32), "bn.mean": np.ones(7, np.float32)}
    unused = {"rot_classifier.weight": np.ones((4, 500))}
    with pytest.raises(
        ValueError, match=r"beside the network, loss\.weight, bn\.mean: leave them out with --prefix net\."
    ):
        fit({**odd, **behind("net.", state()), **unused})
    assert_state(fit({**odd, **behind("net.", state()), **unused}, prefix="net.").state, state())
    fitted = fit({**odd, **state(), **unused})
    assert_state(fitted.state, state() | odd)
    with pytest.raises(ValueError, match=r"it has besides loss\.weight, bn\.mean$"):
        torch_names.convert(fitted.state, LENET, SMALL)


@pytest.mark.parametrize("prefix", [None, "net."])
def test_a_larger_network_is_not_taken_for_a_smaller_one(prefix):
    larger = state() | {"fc3.weight": np.ones((3, 3), np.float32)}
    fitted = fit(behind("net.", larger), prefix=prefix)
    with pytest.raises(ValueError, match=r"it has besides net\.fc3\.weight$"):
        torch_names.convert(fitted.state, LENET, SMALL)


def test_of_copies_the_one_without_prefix_may_be_chosen():
    both = {**state(0), **behind("ema.", state(1))}
    with pytest.raises(ValueError, match=r"choose one with --prefix '' or --prefix ema\."):
        fit(both)
    assert_state(fit(both, prefix="").state, state(0))
    assert_state(fit(both, prefix="ema.").state, state(1))


def test_two_normalisers_are_refused():
    values = {"a.mean": np.zeros(1), "b.mean": np.full(1, 0.5)}
    with pytest.raises(ValueError, match=r"in several ways, a\.mean, b\.mean: must be one"):
        fit({**values, **behind("model.", state())})


def test_a_network_that_normalises_otherwise_is_refused():
    fitted = fit({"0.mean": np.full(1, 0.5), "0.std": np.full(1, 0.25), **behind("1.", state())})
    torch_wrapped.check_pixels(fitted, models.lenet(3, mean=(0.5,), std=(0.25,)))
    torch_wrapped.check_pixels(fitted, models.lenet(3, mean=(0.5,) * 3, std=(0.25,) * 3))
    with pytest.raises(
        ValueError, match=r"normalises pixels itself, with mean \(0\.5,\): the network must .* \(0\.0,\)"
    ):
        torch_wrapped.check_pixels(fitted, LENET)


def renamed(network, shape, change):
    """Names of a network under those of another author, with one number each."""
    names = torch_names.expected_names(network, shape)
    return {name: np.array([i]) for i, name in enumerate(names)}, {
        change(name): np.array([i]) for i, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("network", "size", "changes"),
    [
        (models.resnet18(), 32, {"fc.": "last_linear."}),
        (models.resnet18(), 32, {"fc.": "linear.", "downsample.": "shortcut."}),
        (models.Network(models.WRN(num_classes=3, depth=10, width=1)), 8, {"fc.": "linear."}),
        (models.vgg16_bn(), 32, {"features.": "_features."}),
        (models.vgg16_bn(), 32, {"features.": "_features.", "classifier.": "last_linear."}),
        pytest.param(
            models.vgg16_bn(5, image_size=224),
            224,
            {
                "features.": "_features.",
                "classifier.0.": "linear0.",
                "classifier.3.": "linear1.",
                "classifier.6.": "last_linear.",
            },
        ),
    ],
)
@pytest.mark.parametrize("prefix", ["", "net."])
def test_names_of_other_authors_are_understood(network, size, changes, prefix):
    def change(name):
        for ours, theirs in changes.items():
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name.replace(f".{ours}", f".{theirs}")
        return prefix + name

    expected, given = renamed(network, (size, size, 3), change)
    names = list(expected)
    assert_state(torch_wrapped.fit(given, network, names).state, expected)


def test_from_torch_uses_them(tmp_path):
    from safetensors.numpy import save_file

    pixels = {"0.mean": np.full(1, 0.5, np.float32), "0.std": np.full(1, 0.25, np.float32)}
    save_file({**pixels, **behind("1.", state())}, tmp_path / "w.safetensors")
    network = models.lenet(3, mean=(0.5,), std=(0.25,))
    variables = models.from_torch(tmp_path / "w.safetensors", network, SMALL)
    plain = torch_names.convert(state(), network, SMALL)
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, plain))
    with pytest.raises(ValueError, match="normalises pixels itself"):
        models.from_torch(tmp_path / "w.safetensors", LENET, SMALL)
