"""Converted weights give the logits that PyTorch computes with them; the modules have torchvision's names."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from pp_jax import models  # noqa: E402
from pp_jax.models import torch_file  # noqa: E402
from torch_files import SAVED, assert_same, saved_state  # noqa: E402

VGG = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


class LeNet(nn.Module):
    """LeNet of the published code."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x).relu(), 2)
        x = nn.functional.max_pool2d(self.conv2(x).relu(), 2)
        return self.fc2(self.fc1(x.flatten(1)).relu())


class VGG16BN(nn.Module):
    """VGG-16 with batch norm; one linear layer at 32×32."""

    def __init__(self, classes, size):
        super().__init__()
        layers, channels = [], 3
        for width in VGG:
            if width == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        hidden = [nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()]
        self.classifier = nn.Linear(512, classes) if size == 32 else nn.Sequential(*hidden, nn.Linear(4096, classes))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Block(nn.Module):
    """Residual block, with two 3×3 convolutions or as a bottleneck."""

    def __init__(self, inside, width, outside, stride):
        super().__init__()
        shapes = [(inside, width, 3, stride), (width, outside, 3, 1)]
        if outside != width:
            shapes = [(inside, width, 1, 1), (width, width, 3, stride), (width, outside, 1, 1)]
        for i, (before, after, size, step) in enumerate(shapes, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(before, after, size, step, size // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(after))
        self.count, self.downsample = len(shapes), None
        if stride > 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y if i == self.count else y.relu()
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """Residual network with ImageNet's stem."""

    def __init__(self, classes, blocks, expansion):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for i, count in enumerate(blocks):
            stage = []
            for j in range(count):
                width = 64 * 2**i
                stage.append(Block(channels, width, expansion * width, 2 if i and not j else 1))
                channels = expansion * width
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class WideBlock(nn.Module):
    """Pre-activation block whose shortcut is projected where the width changes."""

    def __init__(self, inside, outside, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inside), nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(outside), nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.convShortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if inside != outside else None

    def forward(self, x):
        y = self.bn1(x).relu()
        x = x if self.convShortcut is None else self.convShortcut(y)
        return x + self.conv2(self.bn2(self.conv1(y)).relu())


class WRN(nn.Module):
    """WRN-40-2."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, channels = nn.Conv2d(3, 16, 3, 1, 1, bias=False), 16
        for i in range(3):
            layers = []
            for j in range(6):
                layers.append(WideBlock(channels, 32 * 2**i, 2 if i and not j else 1))
                channels = 32 * 2**i
            block = nn.Module()
            block.layer = nn.Sequential(*layers)
            setattr(self, f"block{i + 1}", block)
        self.bn1, self.fc = nn.BatchNorm2d(channels), nn.Linear(channels, classes)

    def forward(self, x):
        x = self.conv1(x)
        for block in (self.block1, self.block2, self.block3):
            x = block.layer(x)
        return self.fc(self.bn1(x).relu().mean((2, 3)))


def randomised(module):
    """The module in evaluation, with batch statistics, scales and shifts that matter."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    return module.eval()


@pytest.mark.parametrize(
    ("module", "network", "shape", "zipped"),
    [
        pytest.param(lambda: LeNet(10), models.lenet(10), (28, 28, 1), True, id="lenet"),
        pytest.param(lambda: VGG16BN(10, 32), models.vgg16_bn(10), (32, 32, 3), False, id="vgg16_bn-32"),
        pytest.param(
            *(lambda: VGG16BN(7, 224), models.vgg16_bn(7, image_size=224), (224, 224, 3), False),
            id="vgg16_bn-224",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: ResNet(9, (2, 2, 2, 2), 1), models.resnet18(9, small_images=False), (64, 64, 3), True, id="resnet18"
        ),
        pytest.param(
            lambda: ResNet(9, (3, 4, 6, 3), 1), models.resnet34(9, small_images=False), (64, 64, 3), True, id="resnet34"
        ),
        pytest.param(
            lambda: ResNet(9, (3, 4, 6, 3), 4),
            models.resnet50(9, small_images=False),
            (64, 64, 3),
            False,
            id="resnet50",
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda: WRN(10), models.wrn_40_2(10), (32, 32, 3), True, id="wrn_40_2"),
    ],
)
def test_converted_weights_give_the_logits_of_pytorch(tmp_path, module, network, shape, zipped):
    torch.manual_seed(0)
    reference = randomised(module())
    torch.save(reference.state_dict(), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    variables = models.from_torch(tmp_path / "x.pt", network, shape)
    images = np.random.default_rng(0).random((2, *shape), np.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(images.transpose(0, 3, 1, 2).copy())).numpy()
    logits = jax.jit(jax.vmap(network, (None, 0)))(variables, images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", SAVED)
def test_the_committed_files_are_what_pytorch_saves(tmp_path, name):
    base = torch.arange(24.0)
    state = {
        "plain": base.reshape(2, 3, 4),
        "transposed": base.reshape(4, 6).T,
        "strided": base.reshape(4, 6)[1:, ::2],
        "expanded": base[:3].expand(2, 3),
        "half": (base[:5] / 4).half(),
        "bfloat16": (base[:5] / 4).bfloat16(),
        "double": base[:2].double() / 3,
        "parameter": nn.Parameter(base[7:9]),
        "empty": torch.zeros(0, 3),
        "bn.num_batches_tracked": torch.tensor(7),
    }
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization="zip" in name)
    assert_same(torch_file.read(tmp_path / name), saved_state())
