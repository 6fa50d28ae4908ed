"""The PyTorch side of the benchmarks: the zoo's networks, and the published MAD algorithm as the released code works.

One query at a time; the Jacobian of the last layer's weights by K backward passes; every candidate of the oracle judged
on its own, in a Python loop, through the (K, D) Jacobian; then the line search on the L1 ball. Written from the paper
and its appendix (Orekondy, Schiele, Fritz, "Prediction Poisoning", ICLR 2020), with the networks in inference mode.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pp_jax import models

TOP_MARGIN = 1e-5
ENUMERATED_CLASSES = 10
GREEDY_CANDIDATES = 1024
_STEP_GUARD = 1e-7
_PROBS_GUARD = 1e-8


class Choice(NamedTuple):
    """What an oracle found: y* (K,), and its objective H."""

    target: Tensor
    value: float


Oracle = Callable[[Tensor, Tensor], Choice]


class Network(nn.Module):
    """A network that ends in the dense layer `last`; `features` is what goes into it."""

    last: nn.Linear

    def features(self, images: Tensor) -> Tensor:
        """The input of the last layer, (B, F), of images (B, C, H, W)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.last(self.features(images))


class LeNet(Network):
    """Two 5×5 convolutions with ReLU and max-pooling, then dense layers of 500 and K units, for 28×28 grey images."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.last = nn.Linear(800, 500), nn.Linear(500, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The input of the last layer, (B, 500)."""
        x = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return functional.relu(self.fc1(x.flatten(1)))


class VGG16BN(Network):
    """Configuration D with batch norm and one dense layer, for 32×32 colour images."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for block in ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3):
            for channels in block:
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
                before = channels
            layers.append(nn.MaxPool2d(2))
        self.body, self.last = nn.Sequential(*layers), nn.Linear(512, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The input of the last layer, (B, 512)."""
        return self.body(images).flatten(1)


def twin(network: models.Network, variables: Mapping[str, Any]) -> Network:
    """The namesake of LeNet or VGG16-BN in `pp_jax.models`, with its weights, in inference mode."""
    namesakes: dict[type, type[Network]] = {models.LeNet: LeNet, models.VGG16BN: VGG16BN}
    return load(namesakes[type(network.module)](network.module.num_classes), variables)


def pixels(images: Any) -> Tensor:
    """Images (B, H, W, C) as PyTorch has them, (B, C, H, W)."""
    return torch.tensor(np.array(images)).permute(0, 3, 1, 2).contiguous()


def load(network: Network, variables: Mapping[str, Any]) -> Network:
    """Give a network the weights of its namesake in `pp_jax.models`, and put it into inference mode.

    Args:
        network: `LeNet` or `VGG16BN`.
        variables: the Flax variables, whose layers are named in the order in which they are applied.

    Returns:
        The network itself.

    Raises:
        ValueError: if the variables have another number of layers.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    names = sorted(variables["params"], key=_place)
    if len(layers) != len(names):
        raise ValueError(f"the variables must have {len(layers)} layers, not {len(names)}: {', '.join(names)}")
    channels = 0
    for name, layer in zip(names, layers, strict=True):
        arrays = {k: np.asarray(v) for part in variables.values() for k, v in part.get(name, {}).items()}
        layer.load_state_dict(_tensors(arrays, channels), strict=False)
        channels = layer.weight.shape[0]
    return network.eval()


def _place(name: str) -> tuple[bool, str, str]:
    """Sorts layer names as they are applied: fc after the rest, conv1_1 before norm1_1 before conv1_2."""
    return name.startswith("fc"), name.lstrip("abcdefghijklmnopqrstuvwxyz"), name


def _tensors(arrays: Mapping[str, np.ndarray], channels: int) -> dict[str, Tensor]:
    """The state of one PyTorch layer from that of a Flax layer, behind a layer with so many channels."""
    names = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    state = dict(arrays)
    kernel = state.get("kernel")
    if kernel is not None and kernel.ndim == 4:
        state["kernel"] = kernel.transpose(3, 2, 0, 1)
    elif kernel is not None:
        # Flax flattens (H, W, C), PyTorch (C, H, W).
        positions = kernel.reshape(-1, channels or len(kernel), kernel.shape[1])
        state["kernel"] = positions.transpose(1, 0, 2).reshape(kernel.shape).T
    return {names[key]: torch.tensor(value.copy()) for key, value in state.items()}


def jacobian(network: Network, image: Tensor) -> Tensor:
    """G = ∂ log F(x; w) / ∂w for the weights w of the last layer, (K, D), by K backward passes.

    Args:
        network: the surrogate.
        image: (C, H, W).
    """
    log_probs = functional.log_softmax(network(image[None]), dim=1)[0]
    weight = network.last.weight
    rows = [torch.autograd.grad(entry, weight, retain_graph=True)[0].flatten() for entry in log_probs]
    return torch.stack(rows)


def objective(answer: Tensor, probs: Tensor, gradients: Tensor) -> Tensor:
    """H = ‖Gᵀỹ/‖Gᵀỹ‖ − Gᵀy/‖Gᵀy‖‖² of one answer ỹ (K,), for the posterior y (K,) and G (K, D)."""
    poisoned, clean = gradients.T @ answer, gradients.T @ probs
    return torch.sum((poisoned / torch.linalg.norm(poisoned) - clean / torch.linalg.norm(clean)) ** 2)


def extreme(probs: Tensor, gradients: Tensor) -> Choice:
    """The best of the K one-hots."""
    return _best(iter(torch.eye(len(probs), dtype=probs.dtype)), probs, gradients)


def argmax_preserving(probs: Tensor, gradients: Tensor) -> Choice:
    """The best uniform distribution over a set with the top class: all sets for K ≤ 10, greedily grown sets above."""
    if len(probs) <= ENUMERATED_CLASSES:
        return _best(_sets(probs), probs, gradients)
    return _grow(probs, gradients)


def _best(candidates: Iterator[Tensor], probs: Tensor, gradients: Tensor) -> Choice:
    """The candidate with the largest objective, the first on ties."""
    best = Choice(probs, -1.0)
    for candidate in candidates:
        value = float(objective(candidate, probs, gradients))
        if value > best.value:
            best = Choice(candidate, value)
    return best


def _sets(probs: Tensor) -> Iterator[Tensor]:
    """A candidate for each of the 2^(K−1) sets of classes that contain the top class."""
    top = int(probs.argmax())
    others = [k for k in range(len(probs)) if k != top]
    for size in range(len(probs)):
        for chosen in itertools.combinations(others, size):
            yield _uniform([top, *chosen], probs)


def _uniform(members: list[int], probs: Tensor) -> Tensor:
    """The uniform distribution over `members`, the first of which is weighted up by 1e-5 to win the tie."""
    candidate = torch.zeros_like(probs)
    candidate[members] = 1.0
    candidate[members[0]] += TOP_MARGIN
    return candidate / candidate.sum()


def _grow(probs: Tensor, gradients: Tensor) -> Choice:
    """Add the best class a round, also where it serves the objective less, and keep the best set met."""
    smooth = (probs + _PROBS_GUARD) / (probs + _PROBS_GUARD).sum()
    members, left = [int(probs.argmax())], set(range(len(probs))) - {int(probs.argmax())}
    best, tried = Choice(probs, -1.0), 0
    while left and tried < GREEDY_CANDIDATES:
        options = [Choice(_uniform([*members, k], probs), float(k)) for k in sorted(left)]
        values = [float(objective(option.target, smooth, gradients)) for option in options]
        place = int(np.argmax(values))
        members.append(int(options[place].value))
        left.remove(members[-1])
        tried += len(options)
        if values[place] > best.value:
            best = Choice(options[place].target, values[place])
    return best


def line_search(probs: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """ỹ = y + α(y* − y) with α = min(1, ε/‖y* − y‖₁), the released code's 1e-7 in the denominator included."""
    step = torch.clamp(epsilon / (torch.sum(torch.abs(target - probs)) + _STEP_GUARD), 0, 1)
    return probs + step * (target - probs)


def answer(victim: Network, surrogate: Network, image: Tensor, *, oracle: Oracle, epsilon: float) -> Tensor:
    """Answer one query: victim, Jacobian of the surrogate, oracle, line search.

    Args:
        victim: its posterior is what is poisoned.
        surrogate: the defender's guess of the attacker's network.
        image: (C, H, W).
        oracle: `extreme` or `argmax_preserving`.
        epsilon: the L1 budget.

    Returns:
        ỹ, (K,).
    """
    with torch.no_grad():
        probs = functional.softmax(victim(image[None]), dim=1)[0]
    gradients = jacobian(surrogate, image)
    with torch.no_grad():
        return line_search(probs, oracle(probs, gradients).target, epsilon)
