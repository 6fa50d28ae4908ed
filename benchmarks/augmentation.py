"""Jacobian-based augmentation in batches, against one image at a time: the published form, and our own program.

    python benchmarks/augmentation.py    # about 1 minute on 2 idle cores; needs pip install 'pp-jax[bench]'

An untrained LeNet moves 512 images by one JBDA step, and by JB-top3. "PyTorch, one at a time" is the released code's
way: for each step a forward pass and a full backward pass, which also fills the weights' gradients, with one thread or
with all, whichever is faster. "ours, one at a time" is the same compiled program for a batch of one; its rows are for
information (a batch must not be slower). The figure is a ratio of least times an image. Seeds are 0 and 1.

Expected: the bound of 20 against PyTorch does not hold on a CPU of 2 cores, which the arithmetic of a single image
already occupies for most of the time: 8.6 (JBDA) and 9.4 (JB-top3) against PyTorch, 3.1 and 2.0 against ourselves. It
has not been run on an accelerator, where a single image leaves most of the device unused.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from harness import Row, Times, paired, report, row, threads, torch_reference
from pp_jax import models
from pp_jax.attacks.augment import Move, SignedGradient, TargetedPGD, moved
from pp_jax.attacks.jacobian import JacobianAugmentation

BATCH = 512
ONE_AT_A_TIME = 16
BOUNDS = {"PyTorch": 20, "ours": 1}
MOVES: dict[str, Move] = {"JBDA": SignedGradient(), "JB-top3": TargetedPGD()}


def rows(
    moves: Mapping[str, Move] = MOVES,
    *,
    batch: int = BATCH,
    single: int = ONE_AT_A_TIME,
    repeats: int = 5,
    torch: bool = True,
) -> list[Row]:
    """The lines of the table: each move against ourselves and, with `torch`, against PyTorch."""
    network = models.lenet(10)
    params = jax.jit(network.init, static_argnums=1)(jax.random.key(0), (28, 28, 1))
    image_key, response_key = jax.random.split(jax.random.key(1))
    images = np.asarray(jax.random.uniform(image_key, (batch, 28, 28, 1)))
    responses = np.asarray(jax.random.dirichlet(response_key, np.ones(10, np.float32), (batch,)))
    measured = []
    for label, move in moves.items():
        functions = _ours(move, network, params, images, responses, single)
        if torch:
            functions |= _published(move, network, params, images[:single], responses[:single])
        times = paired(functions, repeats=repeats)
        measured += [_row(label, times, kind, batch, single) for kind in BOUNDS if torch or kind == "ours"]
    return measured


def _ours(
    move: Move, network: Any, params: Any, images: np.ndarray, responses: np.ndarray, single: int
) -> dict[str, Callable[[], Any]]:
    """Our program on all images in batches, and on the first `single` of them one at a time."""
    together = functools.partial(moved, move, network, params, images, responses, 0)
    alone = [
        functools.partial(moved, move, network, params, images[i : i + 1], responses[i : i + 1], 0)
        for i in range(single)
    ]
    return {
        "ours": lambda: together(chunk_size=JacobianAugmentation.chunk_size),
        "ours, one at a time": lambda: [one(chunk_size=move.copies) for one in alone],
    }


def _row(label: str, times: Times, kind: str, batch: int, single: int) -> Row:
    """One line: the fastest way of one image at a time that begins with `kind`, over ours in a batch."""
    slow = [name for name in times.wall if name.startswith(f"{kind}, one at a time")]
    fastest = min(slow, key=times.minimum)
    details = {name: times.milliseconds(name, per=single) for name in slow} | {
        "ours_in_a_batch": times.milliseconds("ours", per=batch),
        "paired_median": times.ratio(fastest, "ours") * batch / single,
        "batch": batch,
        "images_one_at_a_time": single,
    }
    aside = " (for information)" if kind == "ours" else ""
    name = f"{kind} one at a time / {label} in batches, an image, LeNet K=10{aside}"
    ratio = times.minimum(fastest) / single / (times.minimum("ours") / batch)
    return row(name, ratio, BOUNDS[kind], sense=">=", details=details)


def _published(
    move: Any, network: models.Network, params: Any, images: np.ndarray, responses: np.ndarray
) -> dict[str, Callable[[], Any]]:
    """The released code's way, with one thread and with all."""
    reference = torch_reference()
    module, pixels = reference.twin(network, params), reference.pixels(images)
    labels = reference.torch.tensor(responses.argmax(1))
    one = _torch_pgd if isinstance(move, TargetedPGD) else _torch_step

    def run(count: int) -> list[Any]:
        reference.torch.set_num_threads(count)
        return [one(move, module, x[None], y[None]) for x, y in zip(pixels, labels, strict=True)]

    counts = sorted({1, threads()})
    return {f"PyTorch, one at a time, {count} threads": functools.partial(run, count) for count in counts}


def _torch_gradient(network: Any, image: Any, label: Any) -> Any:
    """∇_x CE(F(x), label) of one image (1, C, H, W), by a full backward pass."""
    from torch.nn import functional

    image = image.clone().requires_grad_()
    network.zero_grad()
    functional.cross_entropy(network(image), label).backward()
    return image.grad


def _torch_step(move: SignedGradient, network: Any, image: Any, label: Any) -> Any:
    """The JBDA step in round 0."""
    return (image + move.step_size * _torch_gradient(network, image, label).sign()).clamp(0, 1)


def _torch_pgd(move: TargetedPGD, network: Any, start: Any, label: Any) -> list[Any]:
    """The images towards the likeliest other classes, one after the other."""
    ranking = network(start)[0].argsort(descending=True)
    made = []
    for target in ranking[ranking != label][: move.classes]:
        image = start
        for _ in range(move.steps):
            image = image - move.step_size * _torch_gradient(network, image, target[None]).sign()
            image = (start + (image - start).clamp(-move.radius, move.radius)).clamp(0, 1)
        made.append(image)
    return made


if __name__ == "__main__":
    report(rows())
