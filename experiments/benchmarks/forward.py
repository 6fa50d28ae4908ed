"""Forward passes of the models on a CPU against PyTorch's and against the plain convolution.

    python experiments/benchmarks/forward.py        # about 1 minute on 2 cores; needs pip install 'pp-jax[bench]'

Every row compares two programs on the same images and weights, which must agree, by interleaved repetitions. Expected:
VGG16-BN at most 1.15 × PyTorch's time, alone or under vmap; LeNet under vmap at most 1.15 × the plain convolution's.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import lax

from pp_jax import models

THREADS = 2
Timings = tuple[np.ndarray, np.ndarray]


def require_torch() -> Any:
    """The torch module, limited to as many threads as the reference machine has cores."""
    try:
        import torch
    except ImportError as error:
        raise SystemExit("This benchmark needs PyTorch: pip install 'pp-jax[bench]'") from error
    torch.set_num_threads(THREADS)
    return torch


def interleaved(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> Timings:
    """Seconds of `repeats` runs of each side, in turn after a warm-up, so that both meet the same disturbances."""
    jax.block_until_ready(ours())
    theirs()
    seconds = np.zeros((2, repeats))
    for i in range(repeats):
        for side, function in enumerate((ours, theirs)):
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[side, i] = time.perf_counter() - start
    return seconds[0], seconds[1]


def row(name: str, timings: Timings, bound: float, **details: Any) -> dict[str, Any]:
    """A benchmark record: the median over the repetitions of our time as a multiple of theirs."""
    ours, theirs = timings
    ratio = float(np.median(ours / theirs))
    milliseconds = {
        "ours_ms": 1e3 * float(np.median(ours)),
        "theirs_ms": 1e3 * float(np.median(theirs)),
        "ours_min_ms": 1e3 * float(ours.min()),
        "theirs_min_ms": 1e3 * float(theirs.min()),
    }
    details = milliseconds | {"repeats": len(ours), "jax": jax.__version__, "threads": THREADS} | details
    return {"name": name, "ratio": ratio, "bound": bound, "holds": ratio <= bound, "details": details}


def torch_vgg(torch: Any, variables: Any) -> Any:
    """VGG16-BN for 32×32 images as a torch module in inference mode, with the weights of ours."""
    params, stats = variables["params"], variables["batch_stats"]
    tensor = lambda a: torch.tensor(np.array(a))  # noqa: E731
    layers: list[Any] = []
    for i, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for j in range(1, depth + 1):
            kernel, norm = params[f"conv{i}_{j}"]["kernel"], f"norm{i}_{j}"
            conv, batch_norm = torch.nn.Conv2d(*kernel.shape[2:], 3, padding=1), torch.nn.BatchNorm2d(kernel.shape[3])
            conv.weight.data = tensor(kernel).permute(3, 2, 0, 1).contiguous()
            conv.bias.data = tensor(params[f"conv{i}_{j}"]["bias"])
            batch_norm.weight.data, batch_norm.bias.data = tensor(params[norm]["scale"]), tensor(params[norm]["bias"])
            batch_norm.running_mean, batch_norm.running_var = tensor(stats[norm]["mean"]), tensor(stats[norm]["var"])
            layers += [conv, batch_norm, torch.nn.ReLU()]
        layers += [torch.nn.MaxPool2d(2)]
    dense = torch.nn.Linear(*params["fc"]["kernel"].shape)
    dense.weight.data, dense.bias.data = tensor(params["fc"]["kernel"]).T.contiguous(), tensor(params["fc"]["bias"])
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), dense).eval()


def check_agreement(name: str, ours: Any, theirs: Any) -> None:
    """Two sides that compute different functions are not worth timing."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(np.abs(theirs).max()), err_msg=name)


def vgg_rows(repeats: int, batch: int = 64) -> list[dict[str, Any]]:
    """VGG16-BN against PyTorch: the batched module, and the function of one image under vmap."""
    torch = require_torch()
    network = models.vgg16_bn(10)
    variables = jax.jit(network.init, static_argnums=1)(jax.random.key(0), (32, 32, 3))
    images = jax.random.uniform(jax.random.key(1), (batch, 32, 32, 3))
    module = torch_vgg(torch, variables)
    pixels = torch.tensor(np.array(images)).permute(0, 3, 1, 2).contiguous()

    def theirs() -> Any:
        with torch.inference_mode():
            return module(pixels)

    rows = []
    batched = jax.jit(network.module.apply)
    mapped = jax.jit(jax.vmap(network, (None, 0)))
    for form, function in (("batch", batched), ("vmap of one image", mapped)):
        name = f"VGG16-BN forward, {batch} images, {form} / PyTorch"
        ours = functools.partial(function, variables, images)
        check_agreement(name, ours(), theirs().numpy())
        timings = interleaved(ours, theirs, repeats)
        rows.append(row(name, timings, 1.15, torch=torch.__version__))
    return rows


class PlainLeNet(nn.Module):
    """LeNet's function written with Flax's own layers and the same parameter names."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (B, 10) of images (B, H, W, 1)."""
        for channels, name in ((20, "conv1"), (50, "conv2")):
            x = nn.max_pool(nn.relu(nn.Conv(channels, (5, 5), padding="VALID", name=name)(x)), (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(500, name="fc1")(x.reshape(x.shape[0], -1)))
        return nn.Dense(10, name="fc2")(x)


def lenet_rows(repeats: int, batch: int = 256) -> list[dict[str, Any]]:
    """LeNet, a function of one image under vmap, against the plain convolution on the batch."""
    network = models.lenet(10)
    variables = network.init(jax.random.key(0), (28, 28, 1))
    images = jax.random.uniform(jax.random.key(1), (batch, 28, 28, 1))
    mapped, plain = jax.jit(jax.vmap(network, (None, 0))), jax.jit(PlainLeNet().apply)
    name = f"LeNet forward, {batch} images, vmap of one image / plain batch"
    check_agreement(name, mapped(variables, images), plain(variables, images))
    timings = interleaved(
        lambda: mapped(variables, images), lambda: jax.block_until_ready(plain(variables, images)), repeats
    )
    return [row(name, timings, 1.15)]


def cliff_rows(repeats: int, batch: int = 64) -> list[dict[str, Any]]:
    """The 3×3 convolution of 2×2×512 images against the plain one."""
    images = jax.random.normal(jax.random.key(0), (batch, 2, 2, 512))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 512, 512))
    numbers = ("NHWC", "HWIO", "NHWC")
    ours = jax.jit(lambda x, k: models.conv(x, k, (1, 1), "SAME", dimension_numbers=numbers))
    plain = jax.jit(lambda x, k: lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=numbers))
    name = f"3×3 convolution of {batch} images 2×2×512 / plain"
    check_agreement(name, ours(images, kernel), plain(images, kernel))
    timings = interleaved(
        lambda: ours(images, kernel), lambda: jax.block_until_ready(plain(images, kernel)), max(3, repeats // 5)
    )
    return [row(name, timings, 0.1)]


def rows(repeats: int = 15) -> list[dict[str, Any]]:
    """All comparisons of this script."""
    return vgg_rows(repeats) + lenet_rows(4 * repeats) + cliff_rows(repeats)


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line for each comparison, and the versions below."""
    for entry in rows:
        details, verdict = entry["details"], "holds" if entry["holds"] else "FAILS"
        print(
            f"{entry['name']:<62} {entry['ratio']:6.2f} ≤ {entry['bound']:4.2f} {verdict}"
            f"   ours {details['ours_ms']:.2f} ms, theirs {details['theirs_ms']:.2f} ms"
            f" (minima {details['ours_min_ms']:.2f}, {details['theirs_min_ms']:.2f})"
        )
    versions = {key: d[key] for d in (r["details"] for r in rows) for key in ("jax", "torch", "threads") if key in d}
    print(", ".join(f"{key} {value}" for key, value in versions.items()))


def main() -> None:
    """Print the table."""
    print_table(rows())


if __name__ == "__main__":
    if jax.default_backend() != "cpu":
        print(f"Note: JAX runs on {jax.default_backend()}, PyTorch on the CPU; set JAX_PLATFORMS=cpu to compare alike.")
    main()
