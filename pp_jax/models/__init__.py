"""Flax networks behind the library's logits-function contract; the only package that imports Flax."""

from pp_jax.models.conv import conv, max_pool_2x2
from pp_jax.models.generator import Discriminator, Generator
from pp_jax.models.lenet import LeNet, lenet
from pp_jax.models.mlp import MLP, mlp
from pp_jax.models.network import Network
from pp_jax.models.resnet import ResNet, resnet18, resnet34, resnet50
from pp_jax.models.torch_names import from_torch
from pp_jax.models.vgg import VGG16BN, vgg16_bn
from pp_jax.models.wrn import WRN, wrn_40_2

__all__ = [
    "MLP",
    "VGG16BN",
    "WRN",
    "Discriminator",
    "Generator",
    "LeNet",
    "Network",
    "ResNet",
    "conv",
    "from_torch",
    "lenet",
    "max_pool_2x2",
    "mlp",
    "resnet18",
    "resnet34",
    "resnet50",
    "vgg16_bn",
    "wrn_40_2",
]
