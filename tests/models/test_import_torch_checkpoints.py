"""Checkpoints as people have them, written by PyTorch itself: the weights are found, and nothing else is needed."""

import argparse
import pathlib
import sys
import types
import warnings

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from pp_jax import checkpoints, models  # noqa: E402
from pp_jax.models import torch_file  # noqa: E402
from pp_jax.models.__main__ import main  # noqa: E402

ZOO = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.fc2 = torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 3)
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x):
        return self.fc2(self.bn1(self.conv1(x)).mean((2, 3)))
"""


@pytest.fixture
def net(monkeypatch):
    """A network of a module that whoever reads its file does not have."""
    zoo = types.ModuleType("zoo_of_the_victim")
    monkeypatch.setitem(sys.modules, zoo.__name__, zoo)
    exec(ZOO, zoo.__dict__)
    zoo.Net.__module__ = zoo.__name__
    zoo.Net.__init__.__module__ = zoo.__name__
    torch.manual_seed(0)
    return zoo.Net()


@pytest.fixture(params=[True, False], ids=["zip", "old"])
def read(request, tmp_path, monkeypatch):
    """Saves a tree in one format or the other, forgets the module of the network, and reads the file."""

    def save_and_read(tree, **options):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Couldn't retrieve source code")
            torch.save(tree, tmp_path / "checkpoint.pth.tar", _use_new_zipfile_serialization=request.param)
        monkeypatch.delitem(sys.modules, "zoo_of_the_victim", raising=False)
        return torch_file.read(tmp_path / "checkpoint.pth.tar", **options)

    return save_and_read


def assert_is(found, net):
    """The arrays are the state dict of the network."""
    expected = net.state_dict()
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.numpy())


def stepped(net):
    """An optimizer with momenta."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    net(torch.zeros(2, 1, 4, 4)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.slow
def test_the_checkpoints_of_the_published_code(net, read):
    optimizer = stepped(net)
    tree = {
        "epoch": 3,
        "arch": net.__class__,
        "state_dict": net.state_dict(),
        "best_acc": torch.tensor(99.1),
        "optimizer": optimizer.state_dict(),
        "created_on": "2019-09-01",
    }
    assert_is(read(tree), net)


@pytest.mark.slow
def test_what_stands_beside_the_weights_is_not_needed(net, read):
    tree = {
        "net": net.state_dict(),
        "best_acc": np.float64(0.99),
        "history": np.arange(3.0),
        "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("runs/x")),
        "device": torch.device("cuda:0"),
        "size": torch.Size([3, 32, 32]),
        "dtype": torch.float32,
        "rng": (torch.get_rng_state(), np.random.default_rng(0)),
        "scheduler": torch.optim.lr_scheduler.StepLR(stepped(net), 3).state_dict(),
        "loss": nn.CrossEntropyLoss(),
        "spectrum": torch.zeros(3, dtype=torch.complex64),
    }
    assert_is(read(tree), net)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,
        nn.DataParallel,
        lambda net: nn.ModuleDict({"_orig_mod": net}),
        lambda net: nn.ModuleDict({"_orig_mod": nn.DataParallel(net)}),
        torch.optim.swa_utils.AveragedModel,
        lambda net: nn.ModuleDict({"model": net}),
        lambda net: nn.ModuleDict({"net": nn.DataParallel(net)}),
    ],
    ids=["plain", "parallel", "compiled", "compiled parallel", "averaged", "lightning", "lightning parallel"],
)
def test_wrappers(net, read, wrap):
    lightning = {"pytorch-lightning_version": "2.5.0", "hyper_parameters": {"lr": 0.1}, "callbacks": {}, "loops": {}}
    assert_is(read({"epoch": 3, "state_dict": wrap(net).state_dict(), **lightning}), net)


@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel, lambda net: {"model": net, "epoch": 3}])
def test_networks_that_were_saved_whole(net, read, wrap):
    assert_is(read(wrap(net)), net)


@pytest.mark.slow
def test_averaged_weights_are_chosen(net, read):
    averaged = torch.optim.swa_utils.AveragedModel(net)
    stepped(net)
    tree = {"state_dict": net.state_dict(), "state_dict_ema": averaged.state_dict()}
    with pytest.raises(ValueError, match=r"state_dict_ema .*choose one with --key"):
        read(tree)
    assert_is(read(tree, key="state_dict_ema"), averaged.module)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda tensor: tensor.to(torch.complex64), "complex64"),
        (lambda tensor: tensor.to_sparse(), "a sparse tensor"),
    ],
)
def test_tensors_that_are_no_plain_arrays_are_named(net, read, change, message):
    state = net.state_dict()
    state["conv1.weight"] = change(state["conv1.weight"])
    with pytest.raises(
        ValueError, match=f"holds {message} under 'conv1.weight', which is not supported: convert it to"
    ):
        read({"model": state})


def test_torchscript_is_named(net, tmp_path):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(net.eval(), torch.zeros(1, 1, 4, 4)), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="it is TorchScript: save its weights"):
        torch_file.read(tmp_path / "x.pt")


class Normalize(nn.Module):
    """What stands in front of a network that takes pixels."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x):
        return (x - self.mean) / self.std


@pytest.mark.slow
def test_a_lenet_of_colours_that_normalises_by_itself_gives_the_logits_of_pytorch(tmp_path):
    pool = (nn.MaxPool2d(2), nn.ReLU())
    layers = {"conv1": nn.Conv2d(3, 20, 5), "conv2": nn.Conv2d(20, 50, 5), "fc1": nn.Linear(1250, 500)}
    layers["fc2"] = nn.Linear(500, 7)
    pixels = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201))
    torch.manual_seed(0)
    whole = nn.Sequential(pixels, nn.ModuleDict(layers))
    torch.save({"net": whole.state_dict(), "acc": 70.1}, tmp_path / "ckpt.t7")
    command = ["import-torch", "--model", "lenet", str(tmp_path / "ckpt.t7"), "--out", str(tmp_path / "w.safetensors")]
    assert main(command) == 0
    variables, metadata = checkpoints.load(tmp_path / "w.safetensors")
    network = models.lenet(7, mean=tuple(metadata["mean"]), std=tuple(metadata["std"]))
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    reference = nn.Sequential(
        pixels, layers["conv1"], *pool, layers["conv2"], *pool, nn.Flatten(), layers["fc1"], nn.ReLU(), layers["fc2"]
    )
    with torch.no_grad():
        expected = reference(torch.tensor(images.transpose(0, 3, 1, 2).copy())).numpy()
    logits = jax.vmap(network, (None, 0))(variables, images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
