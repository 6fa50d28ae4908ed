"""The sizes of all runs: those that are fitted, those that are predicted, and what is computed from the fits."""

import dataclasses

import scaling_stages as stages
from scaling_stages import Architecture, Case


@dataclasses.dataclass(frozen=True)
class Plan:
    """The sizes of all runs.

    Attributes:
        base: the network of the sweeps over batches and classes.
        batches: B of those.
        classes: K of those.
        fixed_batch: B of the sweep over classes.
        solver_classes: K of the greedy argmax-preserving search, which makes all its rounds up to K = 46.
        solver_batch: B of the solvers' sweeps over K.
        networks: those of the sweep over operations, at batch `fixed_flops_batch`.
        fixed_flops_batch: their batch.
        exact: networks of the all-layers Gram matrix, at batch 4.
        convolutional: networks of the rates.
        forward_batches: their batches in a forward pass.
        training_batches: their batches in a training step.
        large: networks for large images, which the rates are fitted to as well.
        large_forward_batches: their batches in a forward pass.
        large_training_batches: their batches in a training step.
        streamed: networks of the streams.
        lengths: queries of the fitted streams.
        long: queries of the predicted one.
        larger_queries: predicted queries.
        larger_steps: predicted training steps.
        served: what is served by the million; with the law that tells the time of a call, where it is not the rates.
        attacks: whole attacks, by name.
        devices_batch: images of the query that devices share.
        repeats: turns.
        only: names of the sweeps that are run; all of them by default.
    """

    base: Architecture
    batches: tuple[int, ...]
    classes: tuple[int, ...]
    fixed_batch: int
    solver_classes: tuple[int, ...]
    solver_batch: int
    networks: tuple[Architecture, ...]
    fixed_flops_batch: int
    exact: tuple[Architecture, ...]
    convolutional: tuple[Architecture, ...]
    forward_batches: tuple[int, ...]
    training_batches: tuple[int, ...]
    large: tuple[Architecture, ...]
    large_forward_batches: tuple[int, ...]
    large_training_batches: tuple[int, ...]
    streamed: tuple[Architecture, ...]
    lengths: tuple[int, ...]
    long: int
    larger_queries: tuple[Case, ...]
    larger_steps: tuple[Case, ...]
    served: tuple[tuple[Case, str | None], ...]
    attacks: tuple[tuple[str, Case], ...]
    devices_batch: int
    repeats: int
    only: tuple[str, ...] | None = None


_CUB200, _IMAGENET = Case(stages.VGG_224, 200, 64), Case(stages.RESNET50_224, 1000, 64)
_SMALL, _TINY = stages.perceptron(32), stages.perceptron(8)

FULL = Plan(
    base=stages.LENET,
    batches=(1, 2, 8, 32, 64, 128, 256, 512),
    classes=(10, 30, 100, 300, 1000),
    fixed_batch=64,
    solver_classes=(60, 100, 200, 300, 600, 1000),
    solver_batch=256,
    networks=(
        stages.perceptron(128),
        stages.perceptron(512),
        stages.perceptron(2048),
        stages.LENET,
        stages.VGG_32,
        stages.RESNET18_32,
    ),
    fixed_flops_batch=16,
    exact=(stages.perceptron(128), stages.perceptron(512), stages.LENET, stages.VGG_32),
    convolutional=(
        stages.VGG_32,
        stages.RESNET18_32,
        stages.RESNET34_32,
        stages.RESNET18_64,
        stages.RESNET18_128,
    ),
    forward_batches=(1, 8, 32),
    training_batches=(4, 16),
    large=(stages.RESNET18_224, stages.RESNET34_224),
    large_forward_batches=(1, 8),
    large_training_batches=(2, 6),
    streamed=(_SMALL, stages.LENET),
    lengths=(256, 1024, 4096, 16_384, 65_536, 99_840),
    long=1_000_000,
    larger_queries=(Case(stages.VGG_224, 200, 8), Case(stages.RESNET50_224, 1000, 8)),
    larger_steps=(Case(stages.VGG_224, 200, 4), Case(stages.RESNET50_224, 1000, 8)),
    served=(
        (Case(stages.LENET, 10, 256), "MAD query, batch"),
        (Case(stages.VGG_32, 100, 64), None),
        (_CUB200, None),
        (_IMAGENET, None),
    ),
    attacks=(
        ("CIFAR-100: K = 100, VGG16-BN 32×32", Case(stages.VGG_32, 100, 64)),
        ("CUB200: K = 200, VGG16-BN 224×224", _CUB200),
        ("ImageNet: K = 1000, ResNet50 224×224", _IMAGENET),
    ),
    devices_batch=256,
    repeats=5,
)

QUICK = Plan(
    base=_TINY,
    batches=(1, 4, 16),
    classes=(10, 20, 40),
    fixed_batch=4,
    solver_classes=(20, 30, 40),
    solver_batch=4,
    networks=(_TINY, _SMALL, stages.perceptron(128)),
    fixed_flops_batch=4,
    exact=(_TINY, _SMALL, stages.perceptron(64)),
    convolutional=(_TINY, _SMALL),
    forward_batches=(1, 4),
    training_batches=(1, 4),
    large=(),
    large_forward_batches=(),
    large_training_batches=(),
    streamed=(_TINY,),
    lengths=(256, 512, 1024),
    long=2048,
    larger_queries=(Case(stages.perceptron(256), 50, 8),),
    larger_steps=(Case(stages.perceptron(256), 50, 8),),
    served=((Case(_TINY, 10, 4), "MAD query, batch"), (Case(_SMALL, 10, 4), None)),
    attacks=(("a small attack", Case(_SMALL, 10, 4)),),
    devices_batch=8,
    repeats=1,
    only=(
        "MAD query, batch",
        "solver extreme, classes",
        "forward, flops",
        "MAD query, flops",
        "forward, networks and batches",
        "training step, networks and batches",
        f"stream {_TINY.name}, queries",
    ),
)
