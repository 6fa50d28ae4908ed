"""The stages of a defended query and of an attack, each as something to time, with what its cost may depend on.

Networks are untrained and images are noise: the time depends on neither.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from pp_jax import MAD, BlackBox, blackbox, gram, models, oracle, simplex, stream
from pp_jax.geometry.distance import L1
from pp_jax.geometry.posteriors import posterior
from pp_jax.models import Network
from pp_jax.solvers.heuristic import LineSearch
from pp_jax.training.step import make_step

EPSILON = 0.9
# From here on, in pixels, operations have a rate of their own.
LARGE_SIDE = 192
Thunk = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network for images of one shape, of any number of classes."""

    name: str
    build: Callable[[int], Network]
    shape: tuple[int, int, int]


def perceptron(width: int) -> Architecture:
    """Two hidden layers of one width."""
    return Architecture(f"MLP {width}", functools.partial(models.mlp, hidden=(width, width)), (28, 28, 1))


LENET = Architecture("LeNet", models.lenet, (28, 28, 1))
VGG_32 = Architecture("VGG16-BN 32", models.vgg16_bn, (32, 32, 3))
VGG_224 = Architecture("VGG16-BN 224", functools.partial(models.vgg16_bn, image_size=224), (224, 224, 3))
RESNET18_32 = Architecture("ResNet18 32", models.resnet18, (32, 32, 3))
RESNET18_64 = Architecture("ResNet18 64", models.resnet18, (64, 64, 3))
RESNET34_32 = Architecture("ResNet34 32", models.resnet34, (32, 32, 3))
RESNET18_128 = Architecture("ResNet18 128", functools.partial(models.resnet18, small_images=False), (128, 128, 3))
RESNET18_224 = Architecture("ResNet18 224", functools.partial(models.resnet18, small_images=False), (224, 224, 3))
RESNET34_224 = Architecture("ResNet34 224", functools.partial(models.resnet34, small_images=False), (224, 224, 3))
RESNET50_224 = Architecture("ResNet50 224", functools.partial(models.resnet50, small_images=False), (224, 224, 3))


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, its number of classes K, and the images of a call."""

    architecture: Architecture
    classes: int
    batch: int

    @property
    def network(self) -> Network:
        """The function."""
        return self.architecture.build(self.classes)

    @property
    def images(self) -> jax.Array:
        """Noise, (B, H, W, C)."""
        return jax.random.uniform(jax.random.key(0), (self.batch, *self.architecture.shape))

    def parameters(self, seed: int) -> Any:
        """Untrained parameters."""
        return _initial(self.network, self.architecture.shape, seed)

    def shapes(self) -> tuple[Any, jax.ShapeDtypeStruct]:
        """Parameters and images as shapes alone."""
        shape = self.architecture.shape
        return _shapes(self.network, shape), jax.ShapeDtypeStruct((self.batch, *shape), jnp.float32)

    def posteriors(self, seed: int) -> jax.Array:
        """Posteriors (B, K) that have a clear top class."""
        return jax.nn.softmax(3 * jax.random.normal(jax.random.key(seed), (self.batch, self.classes)))


@functools.lru_cache(maxsize=4)
def _initial(network: Network, shape: tuple[int, int, int], seed: int) -> Any:
    """Parameters, drawn once for all calls of a sweep."""
    return jax.jit(network.init, static_argnums=1)(jax.random.key(seed), shape)


@functools.lru_cache(maxsize=64)
def _shapes(network: Network, shape: tuple[int, int, int]) -> Any:
    """Shapes of the parameters."""
    return jax.eval_shape(lambda: network.init(jax.random.key(0), shape))


@dataclasses.dataclass(frozen=True)
class Size:
    """What the cost of a call may depend on.

    Attributes:
        network: its name; empty where no network takes part.
        batch: images on the device at once.
        classes: K.
        queries: images of the whole call.
        devices: how many share it.
        parameters: of one network.
        flops: of the whole call, by XLA's count; 0 where the call is not one program.
        side: pixels of an image along one side.
    """

    network: str
    batch: int
    classes: int
    queries: int
    devices: int = 1
    parameters: int = 0
    flops: float = 0.0
    side: int = 0


@dataclasses.dataclass(frozen=True)
class Job:
    """One call to time."""

    stage: str
    size: Size
    call: Thunk


def cost(program: Any) -> float:
    """Floating-point operations of a lowered or compiled program, by XLA's count (products with padding are none)."""
    return float((program.cost_analysis() or {}).get("flops", 0.0))


def count(parameters: Any) -> int:
    """How many numbers a pytree holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))


def sized(case: Case, *, flops: float = 0.0, queries: int | None = None) -> Size:
    """The size of a call with the network of `case`."""
    held = count(case.shapes()[0])
    name, side = case.architecture.name, case.architecture.shape[0]
    return Size(name, case.batch, case.classes, queries or case.batch, 1, held, flops, side)


def _program(stage: str, case: Case, function: Callable[..., Any], *args: Any) -> Job:
    """A job out of one compiled function."""
    compiled = jax.jit(function).lower(*args).compile()
    return Job(stage, sized(case, flops=cost(compiled)), functools.partial(compiled, *args))


def _posteriors(network: Network) -> Callable[..., jax.Array]:
    """(parameters, images) -> posteriors."""
    return jax.vmap(functools.partial(posterior, network), (None, 0))


def forward(case: Case) -> Job:
    """Posteriors of a batch: what the victim costs without a defense."""
    return _program("forward", case, _posteriors(case.network), case.parameters(0), case.images)


@functools.lru_cache(maxsize=64)
def forward_work(case: Case) -> dict[str, float]:
    """Amounts of work of a forward pass, of which `fit_rates` makes seconds; nothing is run."""
    return _work(jax.jit(_posteriors(case.network)).lower(*case.shapes()).compile(), case)


def _work(compiled: Any, case: Case) -> dict[str, float]:
    """The amounts of a compiled program."""
    return work(flops=cost(compiled), parameters=count(case.shapes()[0]), side=case.architecture.shape[0])


def work(*, flops: float, parameters: int, side: int) -> dict[str, float]:
    """One call, the parameters that it must read, and its operations: XLA gives more cores to those on large images."""
    large = side >= LARGE_SIDE
    return {
        "call": 1.0,
        "flops, small images": 0.0 if large else flops,
        "flops, large images": flops if large else 0.0,
        "parameters": float(parameters),
    }


def last_layer(case: Case) -> Job:
    """The surrogate's posterior and last-layer Gram operator, applied to a posterior."""
    network = case.network

    def product(parameters: Any, images: jax.Array, probs: jax.Array) -> jax.Array:
        return jax.vmap(lambda x, y: gram.last_layer(network, parameters, x).apply(y))(images, probs)

    return _program("last-layer Gram", case, product, case.parameters(1), case.images, case.posteriors(2))


def all_layers(case: Case) -> Job:
    """The Gram matrix over all parameters of the surrogate."""
    matrices = jax.vmap(functools.partial(gram.all_layers, case.network), (None, 0))
    return _program("all-layers Gram", case, matrices, case.parameters(1), case.images)


def solver(case: Case, which: oracle.Declared) -> Job:
    """Oracle, line search and feasibility step from finished posteriors: no network."""
    search = LineSearch(which)

    def responses(probs: jax.Array, surrogate: jax.Array) -> jax.Array:
        def one(y: jax.Array, p: jax.Array) -> jax.Array:
            y, epsilon = simplex.working(y), jnp.float32(EPSILON)
            found = search(y, gram.LastLayer(p), epsilon=epsilon, distance=L1(), key=jax.random.key(0))
            return simplex.feasible(y, found, epsilon=epsilon, distance=L1(), keep_argmax=search.keeps_argmax)

        return jax.vmap(one)(probs, surrogate)

    args = case.posteriors(2), case.posteriors(3)
    compiled = jax.jit(responses).lower(*args).compile()
    size = Size("", case.batch, case.classes, case.batch, flops=cost(compiled))
    return Job(f"solver {which.function.__name__}", size, functools.partial(compiled, *args))


def defended(case: Case, *, mesh: Mesh | None = None) -> BlackBox:
    """A victim behind MAD with a surrogate of its own architecture."""
    return BlackBox(case.network, case.parameters(0), MAD(case.network, case.parameters(1), EPSILON), mesh=mesh)


def query(case: Case) -> Job:
    """The whole defended query, as an owner serves it."""
    box, images = defended(case), case.images
    # Counted before compilation: the box itself compiles the program.
    flops = cost(blackbox.answered.lower(box, images))
    return Job("MAD query", sized(case, flops=flops), functools.partial(box, images))


def _step(case: Case) -> tuple[Any, optax.GradientTransformation]:
    """A training step on soft labels, which writes over its parameters, and its optimiser."""
    optimizer = optax.sgd(1e-3, momentum=0.5)
    return jax.jit(make_step(case.network, optimizer), donate_argnums=0), optimizer


def training(case: Case) -> Job:
    """One step of the attacker's training on a batch."""
    step, optimizer = _step(case)
    # The step writes over its parameters, which other jobs use as well.
    parameters = jax.tree.map(jnp.copy, case.parameters(0))
    carry = parameters, optimizer.init(parameters["params"])
    images, targets = case.images, case.posteriors(2)
    compiled = step.lower(carry, images, targets).compile()

    def run() -> jax.Array:
        nonlocal carry
        carry, loss = compiled(carry, images, targets)
        return jax.block_until_ready((carry, loss))[1]

    return Job("training step", sized(case, flops=cost(compiled)), run)


@functools.lru_cache(maxsize=64)
def training_work(case: Case) -> dict[str, float]:
    """Amounts of work of a training step; nothing is run."""
    step, optimizer = _step(case)
    parameters, images = case.shapes()
    targets = jax.ShapeDtypeStruct((case.batch, case.classes), jnp.float32)
    carry = parameters, jax.eval_shape(optimizer.init, parameters["params"])
    return _work(step.lower(carry, images, targets).compile(), case)


def streamed(case: Case, queries: int) -> Job:
    """A stream of uint8 images from the host through the defended victim, responses back on the host."""
    box = defended(case)
    block = np.random.default_rng(0).integers(0, 256, (case.batch, *case.architecture.shape)).astype(np.uint8)

    def source() -> Iterator[np.ndarray]:
        for start in range(0, queries, case.batch):
            yield block[: queries - start]

    def run() -> None:
        for _ in stream.ask(box, source(), batch_size=case.batch):
            pass

    return Job("stream", sized(case, queries=queries), run)
