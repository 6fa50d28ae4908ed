"""A LeNet training step on a CPU against PyTorch's: batch 64, SGD .1 with momentum .5, soft cross-entropy.

    python experiments/benchmarks/train_step.py     # about 30 seconds on 2 cores; needs pip install 'pp-jax[bench]'

Both sides start from the same weights, and the losses of their first steps must agree. Expected: at most 1.15 ×
PyTorch's time; inside `lax.scan` within 1.3 × of the single step (with plain convolutions: more than 7 ×).
"""

import functools
from collections.abc import Callable
from typing import Any

import forward
import jax
import numpy as np
import optax

from pp_jax import models

NETWORK = models.lenet(10)
OPTIMIZER = optax.sgd(0.1, momentum=0.5)
State = tuple[Any, Any]


def step(state: State, images: jax.Array, targets: jax.Array) -> tuple[State, jax.Array]:
    """Parameters and momentum after one step on a batch of soft labels, and the loss before it (nats)."""
    params, momentum = state

    def loss(params: Any) -> jax.Array:
        logits, _ = NETWORK.train({"params": params}, images)
        return optax.softmax_cross_entropy(logits, targets).mean()

    value, gradient = jax.value_and_grad(loss)(params)
    updates, momentum = OPTIMIZER.update(gradient, momentum)
    return (optax.apply_updates(params, updates), momentum), value


def torch_lenet(torch: Any, params: Any) -> Any:
    """LeNet as a torch module with the weights of ours."""
    nn = torch.nn
    module = nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    )
    # The flattened feature map is ordered (H, W, C) here and (C, H, W) there.
    fc1 = np.array(params["fc1"]["kernel"]).reshape(4, 4, 50, 500).transpose(3, 2, 0, 1).reshape(500, 800)
    weights = {
        0: np.array(params["conv1"]["kernel"]).transpose(3, 2, 0, 1),
        3: np.array(params["conv2"]["kernel"]).transpose(3, 2, 0, 1),
        7: fc1,
        9: np.array(params["fc2"]["kernel"]).T,
    }
    for (index, weight), name in zip(weights.items(), ("conv1", "conv2", "fc1", "fc2"), strict=True):
        module[index].weight.data = torch.tensor(np.ascontiguousarray(weight))
        module[index].bias.data = torch.tensor(np.array(params[name]["bias"]))
    return module


def torch_step(torch: Any, params: Any, images: jax.Array, targets: jax.Array) -> Callable[[], Any]:
    """A function that performs PyTorch's next step on the batch and returns its loss."""
    module = torch_lenet(torch, params)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    pixels = torch.tensor(np.array(images)).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(np.array(targets))

    def run() -> Any:
        optimizer.zero_grad()
        loss = -(labels * torch.log_softmax(module(pixels), 1)).sum(1).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


def our_step(params: Any, images: jax.Array, targets: jax.Array) -> Callable[[], jax.Array]:
    """A function that performs our next step on the batch and returns its loss."""
    compiled = jax.jit(step, donate_argnums=0)
    params = jax.tree.map(lambda leaf: leaf.copy(), params)
    state = params, OPTIMIZER.init(params)

    def run() -> jax.Array:
        nonlocal state
        state, loss = compiled(state, images, targets)
        return jax.block_until_ready(loss)

    return run


def rows(repeats: int = 60, batch: int = 64) -> list[dict[str, Any]]:
    """The single step against PyTorch's, and a step inside `lax.scan` against the single step."""
    torch = forward.require_torch()
    image_key, label_key, key = jax.random.split(jax.random.key(0), 3)
    images = jax.random.uniform(image_key, (batch, 28, 28, 1))
    targets = jax.nn.softmax(jax.random.normal(label_key, (batch, 10)))
    params = NETWORK.init(key, (28, 28, 1))["params"]
    ours, theirs = our_step(params, images, targets), torch_step(torch, params, images, targets)
    name = f"LeNet training step, {batch} images / PyTorch"
    for _ in range(5):
        forward.check_agreement(name, ours(), theirs().numpy())
    steps = 8
    # Several steps a turn, as in training: right after a call of the other side its idle threads still spin on a core.
    our_turn, their_turn = (functools.partial(_repeat, side, steps) for side in (ours, theirs))
    our_times, their_times = forward.interleaved(our_turn, their_turn, repeats // 3)
    result = [forward.row(name, (our_times / steps, their_times / steps), 1.15, torch=torch.__version__)]

    scan = jax.jit(lambda state: jax.lax.scan(lambda s, _: step(s, images, targets), state, length=steps))
    state = params, OPTIMIZER.init(params)
    scanned, single = forward.interleaved(lambda: scan(state), our_turn, max(3, repeats // steps))
    scan_name = f"LeNet training step in a scan of {steps} / alone"
    return [*result, forward.row(scan_name, (scanned / steps, single / steps), 1.3)]


def _repeat(run: Callable[[], Any], times: int) -> Any:
    """Call several times; the last result."""
    for _ in range(times - 1):
        run()
    return run()


def main() -> None:
    """Print the table."""
    forward.print_table(rows())


if __name__ == "__main__":
    main()
