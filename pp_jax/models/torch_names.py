"""What the arrays of our networks are called, and how they lie, in the state dicts of PyTorch."""

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.models import torch_file, torch_wrapped, vgg
from pp_jax.models.lenet import LeNet
from pp_jax.models.network import Network
from pp_jax.models.resnet import ResNet
from pp_jax.models.vgg import VGG16BN
from pp_jax.models.wrn import WRN

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
# Between torchvision's dense layers lie a ReLU and a dropout.
_VGG_HEAD = {"fc1": 0, "fc2": 3, "fc": 6}
# Names that a message lists of each kind.
_SHOWN = 5


def from_torch(
    path: str | os.PathLike[str],
    network: Network,
    image_shape: tuple[int, int, int],
    *,
    key: str | None = None,
    prefix: str | None = None,
) -> dict[str, Any]:
    """Read a PyTorch state dict as the variables of a network, without PyTorch.

    The names are torchvision's for `vgg16_bn` at 224×224 (at 32×32 with one layer `classifier`), `resnet18`, 34 and
    50; `conv1`, `conv2`, `fc1`, `fc2` for LeNet; `conv1`, `block1.layer.0.bn1`, …, `bn1`, `fc` for WRN; or those of
    pretrainedmodels and ModelGuard. Whatever all of them begin with is dropped. The file is read as in
    `pp_jax.models.torch_file.read`: nothing in it is run.

    Args:
        path: file of safetensors or `torch.save`, the index of several, or their folder.
        network: one of this package; its normalisation should be the one that the weights were trained with.
        image_shape: (H, W, C) of one image.
        key: where in the file the weights are, if it holds several.
        prefix: what their names begin with, if there are several such networks; other tensors are then left out.

    Returns:
        What `network.init` returns for that shape, with the values of the file.

    Raises:
        ValueError: if the file is not a whole state dict or its tensors are not those of the network (the message
            names those that are missing, surplus, or of another shape), or if the file has a normaliser of its own and
            the network normalises otherwise.
        OSError: if the file cannot be opened.
    """
    state = torch_file.read(path, key=key)
    fitted = torch_wrapped.fit(state, network, expected_names(network, image_shape), prefix=prefix)
    torch_wrapped.check_pixels(fitted, network)
    return convert(fitted.state, network, image_shape)


def expected_names(network: Network, image_shape: tuple[int, int, int]) -> list[str]:
    """What PyTorch calls the variables of a network, in the order of `jax.tree.leaves`."""
    like = jax.eval_shape(functools.partial(network.init, image_shape=image_shape), jax.random.key(0))
    paths = [tuple(key.key for key in path) for path, _ in jax.tree_util.tree_flatten_with_path(like)[0]]
    return [torch_name(network.module, path) for path in paths]


def convert(state: Mapping[str, np.ndarray], network: Network, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The tensors of a state dict, by name, as the variables of a network; see `from_torch`.

    Convolution kernels go from OIHW to HWIO and dense ones from (out, in) to (in, out). The input of a dense layer
    behind a convolution goes from (C, H, W) to (H, W, C) order. `num_batches_tracked` is left out.
    """
    like = jax.eval_shape(functools.partial(network.init, image_shape=image_shape), jax.random.key(0))
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    paths = [tuple(key.key for key in path) for path, _ in leaves]
    names = [torch_name(network.module, path) for path in paths]
    _check(state, dict(zip(names, (_torch_shape(leaf.shape) for _, leaf in leaves), strict=True)), network)
    values = [
        _ours(state[name], _channels_before(network.module, path[1]), leaf)
        for name, path, (_, leaf) in zip(names, paths, leaves, strict=True)
    ]
    return dict(jax.tree.unflatten(tree, values))


def num_classes(state: Mapping[str, np.ndarray], network: Network) -> int:
    """The number of classes that a state dict for this kind of network has; ValueError if it lacks the last layer."""
    last = torch_name(network.module, ("params", "fc2" if isinstance(network.module, LeNet) else "fc", "bias"))
    if last not in state:
        raise ValueError(f"the state dict lacks {last}, the last layer of {type(network.module).__name__}")
    return len(state[last])


def first_kernel(state: Mapping[str, np.ndarray], network: Network) -> tuple[int, ...]:
    """(out, in, height, width) of the first convolution, or () if the state dict lacks it."""
    first = "conv1_1" if isinstance(network.module, VGG16BN) else "conv1"
    tensor = state.get(torch_name(network.module, ("params", first, "kernel")))
    return () if tensor is None else tensor.shape


def torch_name(module: nn.Module, path: tuple[str, ...]) -> str:
    """PyTorch's name of the variable at `path`, such as ("params", "stage1_block1", "conv1", "kernel")."""
    _, *layers, leaf = path
    layer = ".".join(layers)
    for kind, rename in _RENAMES.items():
        if type(module) is kind:
            return f"{rename(module, layer)}.{_LEAVES[leaf]}"
    raise ValueError(f"{type(module).__name__} must be LeNet, VGG16BN, ResNet or WRN to have names in PyTorch")


def _vgg(module: Any, layer: str) -> str:
    """features.N of torchvision's sequence of convolution, batch norm, ReLU, with a pooling behind each block."""
    if layer in _VGG_HEAD:
        return "classifier" if module.image_size == 32 else f"classifier.{_VGG_HEAD[layer]}"
    kind, block, place = re.fullmatch(r"(conv|norm)(\d)_(\d)", layer).groups()  # type: ignore[union-attr]
    before = sum(map(len, vgg.BLOCKS[: int(block) - 1])) + int(place) - 1
    return f"features.{3 * before + int(block) - 1 + (kind == 'norm')}"


def _resnet(module: Any, layer: str) -> str:
    """layerI.J.convK, .bnK, .downsample.0 and 0.1, counting blocks from 0."""
    layer = layer.replace("shortcut_conv", "downsample.0").replace("shortcut_norm", "downsample.1")
    return _stage(layer, "layer{}.{}").replace("norm", "bn")


def _wrn(module: Any, layer: str) -> str:
    """blockI.layer.J.convK, .bnK and .convShortcut, counting layers from 0."""
    layer = "bn1" if layer == "norm" else layer.replace("shortcut", "convShortcut")
    return _stage(layer, "block{}.layer.{}").replace("norm", "bn")


def _stage(layer: str, form: str) -> str:
    """`stageI_blockJ` written as `form` of I and J − 1."""
    return re.sub(r"stage(\d+)_block(\d+)", lambda found: form.format(found[1], int(found[2]) - 1), layer)


_RENAMES: dict[type, Callable[[Any, str], str]] = {
    LeNet: lambda module, layer: layer,
    VGG16BN: _vgg,
    ResNet: _resnet,
    WRN: _wrn,
}


def _channels_before(module: nn.Module, layer: str) -> int:
    """Channels of the images that a dense layer flattens; 1 where it flattens none."""
    if layer != "fc1":
        return 1
    return 50 if isinstance(module, LeNet) else vgg.BLOCKS[-1][-1]


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's shape of an array: HWIO as OIHW, (in, out) as (out, in)."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _ours(tensor: np.ndarray, channels: int, like: Any) -> jax.Array:
    """One tensor, transposed; the input of a dense layer is regrouped from channels first to channels last."""
    if tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)
    elif tensor.ndim == 2:
        tensor = tensor.reshape(len(tensor), channels, -1).transpose(2, 1, 0)
    return jnp.asarray(np.asarray(tensor, like.dtype).reshape(like.shape))


def _check(state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], network: Network) -> None:
    """Names and shapes must be those of the network."""
    found = [name for name in state if not name.endswith("num_batches_tracked")]
    wrong = [
        f"{name} is {state[name].dtype}{list(state[name].shape)}, not float{list(shape)}"
        for name, shape in shapes.items()
        if name in state and (state[name].shape != shape or not jnp.issubdtype(state[name].dtype, jnp.floating))
    ]
    complaints = [
        *_listed("it lacks ", [name for name in shapes if name not in state]),
        *_listed("it has besides ", [name for name in found if name not in shapes]),
        *_listed("", wrong),
    ]
    if complaints:
        module = type(network.module).__name__
        raise ValueError(f"the state dict must hold the tensors of this {module}: {'; '.join(complaints)}")


def _listed(start: str, names: Iterable[str]) -> list[str]:
    """A complaint about the names, the first few in full; none if there are none."""
    names = list(names)
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{start}{', '.join(names[:_SHOWN])}{rest}"] if names else []
