"""Every network finds its arrays under PyTorch's names, and lays them out as it needs them; misfits are named."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from safetensors.numpy import save_file

from pp_jax import checkpoints, models
from pp_jax.models import torch_names
from pp_jax.models.__main__ import main
from torch_files import mapping, state_code, zip_file

NORM = ("weight", "bias", "running_mean", "running_var")
LENET = {f"{layer}.{leaf}" for layer in ("conv1", "conv2", "fc1", "fc2") for leaf in ("weight", "bias")}


def norms(*layers):
    return {f"{layer}.{leaf}" for layer in layers for leaf in NORM}


def vgg_names(*dense):
    """torchvision's: positions of the convolutions in a sequence with pooling layers."""
    convolutions = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
    layers = [*(f"features.{i}" for i in convolutions), *dense]
    return {f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias")} | norms(
        *(f"features.{i + 1}" for i in convolutions)
    )


def resnet_names(blocks, convolutions, projected):
    """torchvision's: `convolutions` in each block, a projection in the first block of some stages."""
    names = {"conv1.weight", "fc.weight", "fc.bias"} | norms("bn1")
    for layer, count in enumerate(blocks, start=1):
        for block in range(count):
            prefix = f"layer{layer}.{block}"
            names |= {f"{prefix}.conv{i}.weight" for i in range(1, convolutions + 1)}
            names |= norms(*(f"{prefix}.bn{i}" for i in range(1, convolutions + 1)))
            if block == 0 and layer in projected:
                names |= {f"{prefix}.downsample.0.weight"} | norms(f"{prefix}.downsample.1")
    return names


def wrn_names():
    """Three blocks of six layers, the first of each with a projection."""
    names = {"conv1.weight", "fc.weight", "fc.bias"} | norms("bn1")
    for prefix in (f"block{i}.layer.{j}" for i in (1, 2, 3) for j in range(6)):
        names |= {f"{prefix}.conv1.weight", f"{prefix}.conv2.weight"} | norms(f"{prefix}.bn1", f"{prefix}.bn2")
    return names | {f"block{i}.layer.0.convShortcut.weight" for i in (1, 2, 3)}


NETWORKS = [
    # The counts are those of torchvision's state dicts without num_batches_tracked.
    pytest.param(models.lenet(), (28, 28, 1), LENET, 8, id="lenet"),
    pytest.param(models.vgg16_bn(), (32, 32, 3), vgg_names("classifier"), 80, id="vgg16_bn-32"),
    pytest.param(
        models.vgg16_bn(1000, image_size=224),
        (224, 224, 3),
        vgg_names("classifier.0", "classifier.3", "classifier.6"),
        84,
        id="vgg16_bn-224",
    ),
    pytest.param(models.resnet18(), (32, 32, 3), resnet_names((2, 2, 2, 2), 2, (2, 3, 4)), 102, id="resnet18"),
    pytest.param(models.resnet34(), (32, 32, 3), resnet_names((3, 4, 6, 3), 2, (2, 3, 4)), 182, id="resnet34"),
    pytest.param(models.resnet50(), (32, 32, 3), resnet_names((3, 4, 6, 3), 3, (1, 2, 3, 4)), 267, id="resnet50"),
    pytest.param(models.wrn_40_2(), (32, 32, 3), wrn_names(), 190, id="wrn_40_2"),
]


@pytest.mark.parametrize(("network", "shape", "names", "count"), NETWORKS)
def test_names_are_those_of_pytorch(network, shape, names, count):
    like = jax.eval_shape(functools.partial(network.init, image_shape=shape), jax.random.key(0))
    paths = [tuple(key.key for key in path) for path, _ in jax.tree_util.tree_flatten_with_path(like)[0]]
    found = [torch_names.torch_name(network.module, path) for path in paths]
    assert len(found) == len(set(found)) == count
    assert set(found) == names


def lenet_state(seed=0, classes=10):
    """A state dict of LeNet."""
    rng = np.random.default_rng(seed)
    shapes = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 800), "fc2": (classes, 500)}
    state = {f"{layer}.weight": rng.normal(0, 0.05, shape) for layer, shape in shapes.items()}
    state |= {f"{layer}.bias": rng.normal(0, 0.05, shape[0]) for layer, shape in shapes.items()}
    return {name: array.astype(np.float32) for name, array in state.items()}


def channels_first(state, images):
    """LeNet as PyTorch computes it: images (B, C, H, W), kernels OIHW, flattened in the order C, H, W."""
    for layer in ("conv1", "conv2"):
        images = lax.conv(images, state[f"{layer}.weight"], (1, 1), "VALID") + state[f"{layer}.bias"][:, None, None]
        images = jax.nn.relu(lax.reduce_window(images, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"))
    hidden = jax.nn.relu(images.reshape(len(images), -1) @ state["fc1.weight"].T + state["fc1.bias"])
    return hidden @ state["fc2.weight"].T + state["fc2.bias"]


@pytest.fixture(scope="module")
def lenet_file(tmp_path_factory):
    path, state = tmp_path_factory.mktemp("lenet") / "lenet.pt", lenet_state()
    return zip_file(path, *state_code(state)), state


def test_kernels_and_the_flattened_images_change_their_layout(lenet_file):
    path, state = lenet_file
    network = models.lenet()
    variables = models.from_torch(path, network, (28, 28, 1))
    images = jax.random.uniform(jax.random.key(0), (3, 28, 28, 1))
    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(channels_first)(state, images.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(jax.vmap(network, (None, 0))(variables, images), expected, rtol=1e-4, atol=1e-5)


def test_variables_are_those_of_init_in_structure_and_type():
    network = models.Network(models.WRN(num_classes=3, depth=10, width=1))
    like = jax.eval_shape(functools.partial(network.init, image_shape=(8, 8, 3)), jax.random.key(0))
    state = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]:
        shape = leaf.shape[::-1] if leaf.ndim < 4 else (*leaf.shape[:1:-1], *leaf.shape[:2])
        name = torch_names.torch_name(network.module, tuple(key.key for key in path))
        # Other floating-point types are converted, and what counts batches is left out.
        state |= {name: np.full(shape, 0.5, np.float16), f"{name}.num_batches_tracked": np.array(3)}
    variables = torch_names.convert(state, network, (8, 8, 3))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), like
    )
    assert network(variables, jnp.zeros((8, 8, 3))).shape == (3,)


def without(state, *names):
    return {name: array for name, array in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: without(state, "fc1.bias"), r"LeNet: it lacks fc1\.bias$"),
        (lambda state: state | {"fc3.bias": np.zeros(3)}, r"it has besides fc3\.bias$"),
        (
            lambda state: lenet_state(classes=7),
            r"fc2\.bias is float32\[7\], not float\[10\].*fc2\.weight is float32\[7, 5",
        ),
        (lambda state: state | {"fc1.bias": np.zeros(500, np.int64)}, r"fc1\.bias is int64\[500\], not float"),
        (lambda state: {f"net.{name}": array for name, array in state.items()}, r"lacks.* and 3 more; it has besides"),
    ],
)
def test_missing_surplus_and_misshapen_tensors_are_named_in_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        torch_names.convert(change(lenet_state()), models.lenet(), (28, 28, 1))


def test_a_network_of_ones_own_has_no_names_in_pytorch():
    with pytest.raises(ValueError, match="Bottleneck must be LeNet, VGG16BN, ResNet or WRN"):
        torch_names.torch_name(models.resnet.Bottleneck(8), ("params", "conv1", "kernel"))


def test_the_command_writes_a_checkpoint_that_says_what_it_is(lenet_file, tmp_path, capsys):
    path, state = lenet_file
    out = tmp_path / "new" / "weights.safetensors"
    options = ["--mean", "0.13", "--std", "0.31"]
    assert main(["import-torch", "--model", "lenet", str(path), "--out", str(out), *options]) == 0
    assert "lenet, 10 classes, 431080 parameters" in capsys.readouterr().out
    variables, metadata = checkpoints.load(out)
    np.testing.assert_array_equal(variables["params"]["fc2"]["kernel"], state["fc2.weight"].T)
    assert metadata | {"source_sha256": ""} == {
        "model": "lenet", "num_classes": 10, "image_shape": [28, 28, 1], "mean": [0.13], "std": [0.31],
        "source": "lenet.pt", "source_sha256": "",
    }  # fmt: skip
    assert len(metadata["source_sha256"]) == 64


def test_the_command_reads_safetensors_and_infers_the_number_of_classes(tmp_path, capsys):
    save_file(lenet_state(classes=7), tmp_path / "x.safetensors")
    out = str(tmp_path / "out.safetensors")
    assert main(["import-torch", "--model", "lenet", str(tmp_path / "x.safetensors"), "--out", out]) == 0
    said = capsys.readouterr().out
    assert "lenet, 7 classes" in said
    assert "not normalised (--mean, --std)" in said
    assert main(["import-torch", "--model", "lenet", out, "--out", str(tmp_path / "again")]) == 1
    assert "it is converted already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "resnet18"], "lacks fc.bias, the last layer of ResNet"),
        (["--model", "resnet18", "--num-classes", "10"], "it lacks bn1.running_mean"),
        (["--model", "lenet", "--num-classes", "0"], "num_classes=0 must be at least 1"),
        (["--model", "lenet", "--num-classes", "3"], "fc2.bias is float32[10], not float[3]"),
        (["--model", "lenet", "--image-size", "32"], "fc1.weight is float32[500, 800], not float[500, 1250]"),
        (["--model", "lenet", "--std", "0"], "std=(0.0,) must be positive"),
        (["--model", "vgg16_bn", "--image-size", "64"], "image_size=64 must be 32 or 224"),
    ],
)
def test_a_misfit_is_one_line(lenet_file, tmp_path, options, message, capsys):
    out = tmp_path / "out.safetensors"
    assert main(["import-torch", str(lenet_file[0]), "--out", str(out), *options]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert not out.exists()


def lenet_of(channels, side, classes=10):
    """A state dict of a LeNet for other images."""
    left = ((side - 4) // 2 - 4) // 2
    state = lenet_state(classes=classes)
    kernel = np.zeros((20, channels, 5, 5), np.float32)
    return state | {"conv1.weight": kernel, "fc1.weight": np.zeros((500, 50 * left**2), np.float32)}


def imported(tmp_path, state, *options):
    """What the command makes of a state dict: variables and metadata."""
    save_file(state, tmp_path / "x.safetensors")
    out = tmp_path / "out.safetensors"
    assert main(["import-torch", str(tmp_path / "x.safetensors"), "--out", str(out), *options]) == 0
    return checkpoints.load(out)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (4, 16)])
def test_images_are_as_the_layers_of_lenet_say(tmp_path, channels, side):
    _, metadata = imported(tmp_path, lenet_of(channels, side), "--model", "lenet")
    assert metadata["image_shape"] == [side, side, channels]
    _, metadata = imported(tmp_path, lenet_of(channels, side), "--model", "lenet", "--image-size", str(side + 1))
    assert metadata["image_shape"] == [side + 1, side + 1, channels]


def resnet_state(size, change=lambda name: name):
    """A state dict of a ResNet-18 with one stem or the other, all ones."""
    network = models.resnet18(4, small_images=size == 32)
    names = torch_names.expected_names(network, (size, size, 3))
    like = jax.eval_shape(functools.partial(network.init, image_shape=(size, size, 3)), jax.random.key(0))
    shapes = [
        leaf.shape[::-1] if leaf.ndim < 4 else (*leaf.shape[:1:-1], *leaf.shape[:2]) for leaf in jax.tree.leaves(like)
    ]
    return {change(name): np.ones(shape, np.float32) for name, shape in zip(names, shapes, strict=True)}


@pytest.mark.parametrize("size", [32, pytest.param(224, marks=pytest.mark.slow)])
def test_the_stem_is_the_files_own(tmp_path, size):
    state = resnet_state(size, lambda name: name.replace("fc.", "last_linear."))
    _, metadata = imported(tmp_path, state, "--model", "resnet18")
    assert metadata["image_shape"] == [size, size, 3]
    assert metadata["small_images"] is (size == 32)


def test_the_files_own_normaliser_is_kept_in_the_checkpoint(tmp_path, capsys):
    pixels = {"0.mean": np.full(1, 0.1307, np.float32), "0.std": np.full(1, 0.3081, np.float32)}
    state = pixels | {f"1.{name}": array for name, array in lenet_state().items()}
    _, metadata = imported(tmp_path, state, "--model", "lenet")
    assert (metadata["mean"], metadata["std"]) == ([0.1307], [0.3081])
    assert "mean (0.1307,), std (0.3081,)" in capsys.readouterr().out
    imported(tmp_path, state, "--model", "lenet", "--mean", "0.1307")
    path, out = str(tmp_path / "x.safetensors"), str(tmp_path / "y")
    assert main(["import-torch", "--model", "lenet", path, "--out", out, "--mean", "0.5"]) == 1
    assert "--mean is (0.5,), but the file normalises pixels itself, with (0.1307,)" in capsys.readouterr().err


def test_the_file_may_stand_behind_the_numbers(tmp_path):
    save_file(lenet_of(3, 32), tmp_path / "x.safetensors")
    out = tmp_path / "out.safetensors"
    numbers = ["--mean", "0.5", "-0.25", "1e-1", "--std", "0.25", "0.5", "1"]
    assert main(["import-torch", "--model", "lenet", *numbers, str(tmp_path / "x.safetensors"), "--out", str(out)]) == 0
    _, metadata = checkpoints.load(out)
    assert (metadata["mean"], metadata["std"]) == ([0.5, -0.25, 0.1], [0.25, 0.5, 1.0])


def test_what_is_no_number_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["import-torch", "--model", "lenet", "x.pth", "--out", "y", "--std", "w.pth"])
    assert "must be one number, or one a channel as 0.485 0.456 0.406, not 'w.pth'" in capsys.readouterr().err


def test_one_of_several_networks_is_chosen_by_key_and_prefix(tmp_path, capsys):
    whole, storages = state_code(lenet_state())
    scaled, _ = state_code(lenet_state(classes=7))
    path = zip_file(tmp_path / "x.pt", mapping({"net": whole, "ema": scaled}), storages)
    command = ["import-torch", "--model", "lenet", str(path), "--out", str(tmp_path / "out.safetensors")]
    assert main(command) == 1
    assert "net (8 tensors), ema (8 tensors): choose one with --key" in capsys.readouterr().err
    assert main([*command, "--key", "net"]) == 0
    assert "10 classes" in capsys.readouterr().out
    both = {f"{who}.{name}": array for who, seed in (("a", 0), ("b", 1)) for name, array in lenet_state(seed).items()}
    variables, _ = imported(tmp_path, both, "--model", "lenet", "--prefix", "b.")
    np.testing.assert_array_equal(variables["params"]["fc2"]["bias"], lenet_state(1)["fc2.bias"])


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file(lenet_state(), tmp_path / "x.safetensors")
    assert main(["import-torch", "--model", "lenet", "~/x.safetensors", "--out", "~/new/y.safetensors"]) == 0
    assert checkpoints.load("~/new/y.safetensors")[1]["model"] == "lenet"


def test_an_absent_file_is_one_line(tmp_path, capsys):
    assert main(["import-torch", "--model", "lenet", str(tmp_path / "absent.pt"), "--out", str(tmp_path / "x")]) == 1
    assert "absent.pt" in capsys.readouterr().err
