"""A LeNet training step on a CPU against PyTorch's: batch 64, SGD .1 with momentum .5, soft cross-entropy.

    python benchmarks/train_step.py     # about 30 seconds on 2 cores; needs pip install 'pp-jax[bench]'

Both sides start from the same weights, and the losses of their first steps must agree. Expected: at most 1.15 ×
PyTorch's time; inside `lax.scan` within 1.3 × of the single step (with plain convolutions: more than 7 ×).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from harness import Row, agree, compared, report, torch_reference
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


def their_step(params: Any, images: jax.Array, targets: jax.Array) -> Callable[[], Any]:
    """A function that performs PyTorch's next step on the batch and returns its loss."""
    reference = torch_reference()
    torch, module = reference.torch, reference.twin(NETWORK, {"params": params})
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    pixels, labels = reference.pixels(images), torch.tensor(np.array(targets))

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


def rows(repeats: int = 60, batch: int = 64) -> list[Row]:
    """The single step against PyTorch's, and a step inside `lax.scan` against the single step."""
    image_key, label_key, key = jax.random.split(jax.random.key(0), 3)
    images = jax.random.uniform(image_key, (batch, 28, 28, 1))
    targets = jax.nn.softmax(jax.random.normal(label_key, (batch, 10)))
    params = NETWORK.init(key, (28, 28, 1))["params"]
    ours, theirs = our_step(params, images, targets), their_step(params, images, targets)
    name = f"LeNet training step, {batch} images / PyTorch"
    for _ in range(5):
        agree(name, ours(), theirs())
    steps = 8
    # Several steps a turn, as in training: right after a call of the other side its idle threads still spin on a core.
    our_turn, their_turn = (functools.partial(_repeat, side, steps) for side in (ours, theirs))
    single = compared(name, our_turn, their_turn, 1.15, repeats=max(1, repeats // 3), per=steps)

    scan = jax.jit(lambda state: jax.lax.scan(lambda s, _: step(s, images, targets), state, length=steps))
    scanned = functools.partial(scan, (params, OPTIMIZER.init(params)))
    name = f"LeNet training step in a scan of {steps} / alone"
    return [single, compared(name, scanned, our_turn, 1.3, repeats=max(3, repeats // steps), per=steps)]


def _repeat(run: Callable[[], Any], times: int) -> Any:
    """Call several times; the last result."""
    for _ in range(times - 1):
        run()
    return run()


if __name__ == "__main__":
    report(rows())
