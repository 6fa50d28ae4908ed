"""`python -m pp_jax.models import-torch`: a checkpoint that says what it is, or one line that says what is amiss."""

import functools

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from pp_jax import checkpoints, models
from pp_jax.models import torch_names
from pp_jax.models.__main__ import main
from torch_files import lenet_state, mapping, state_code, zip_file


@pytest.fixture(scope="module")
def lenet_file(tmp_path_factory):
    path, state = tmp_path_factory.mktemp("lenet") / "lenet.pt", lenet_state()
    return zip_file(path, *state_code(state)), state


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


def resnet_state(size, change):
    """A state dict of a ResNet-18 with one stem or the other, all ones."""
    network = models.resnet18(4, small_images=size == 32)
    like = jax.eval_shape(functools.partial(network.init, image_shape=(size, size, 3)), jax.random.key(0))
    state = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(like)[0]:
        name = torch_names.torch_name(network.module, tuple(key.key for key in path))
        shape = leaf.shape[::-1] if leaf.ndim < 4 else (*leaf.shape[:1:-1], *leaf.shape[:2])
        state[change(name)] = np.ones(shape, np.float32)
    return state


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 224])
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
