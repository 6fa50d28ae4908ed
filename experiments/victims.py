"""Victims by options: trained once, kept with a record, and found again."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from pathlib import Path
from typing import Any, Literal

from pp_jax._files import expanded

Model = Literal["lenet", "mlp", "vgg16_bn", "resnet18", "resnet34", "resnet50", "wrn_40_2"]
Augmentation = Literal["none", "cifar", "imagenet"]

_IMPORT = "`python -m pp_jax.models import-torch`"


@dataclasses.dataclass(frozen=True)
class VictimOptions:
    """All that determines a victim."""

    dataset: str = "mnist"
    """What it is trained on, a name of `python -m pp_jax.data list`."""
    model: Model = "lenet"
    """Architecture."""
    train_size: int | None = None
    """Train on the first so many images; all of them by default."""
    epochs: int = 4
    """Passes over the training images."""
    batch_size: int = 64
    """Images a step."""
    learning_rate: float = 0.1
    """Of SGD."""
    momentum: float = 0.5
    """Of SGD."""
    decay_every: int = 3
    """Epochs after which the learning rate falls to a tenth."""
    weight_decay: float = 0.0
    """L2 penalty."""
    augmentation: Augmentation = "none"
    """Flips and crops of the training images, as published for CIFAR or ImageNet."""
    noise_multiplier: float | None = None
    """Train with DP-SGD: noise in multiples of the clipping norm."""
    clip: float = 1.0
    """DP-SGD: largest L2 norm of one image's gradient."""
    outliers: str | None = None
    """Train with outlier exposure on this data set: not to be confident about its images."""
    outlier_weight: float = 0.5
    """Outlier exposure: weight of its loss."""
    weights: Path | None = None
    """Take these instead of training: a file that `python -m pp_jax.models import-torch` or a script wrote. Pixels are
    normalised as it says."""
    seed: int = 0
    """Of initialisation and order."""

    def settings(self) -> dict[str, Any]:
        """What determines the victim, as a record has it: options that are not used are left out."""
        chosen = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        for name, unused in (("weight_decay", 0.0), ("augmentation", "none")):
            if chosen[name] == unused:
                del chosen[name]
        if self.noise_multiplier is None:
            del chosen["clip"]
        if self.outliers is None:
            del chosen["outlier_weight"]
        if self.weights_file is not None:
            if not self.weights_file.exists():
                raise ValueError(f"weights is {self.weights}: there is no such file")
            if self.weights_file.is_dir():
                raise ValueError(f"weights is {self.weights}, a folder: must be a file that {_IMPORT} writes")
            digest = _sha256(self.weights_file, self.weights_file.stat().st_mtime_ns)
            return {"dataset": self.dataset, "model": self.model, "weights_sha256": digest}
        return chosen

    @property
    def weights_file(self) -> Path | None:
        """Where the weights are, if they are given."""
        return None if self.weights is None else expanded(self.weights)

    def recipe(self) -> Any:
        """How the victim is trained."""
        from pp_jax import training

        if self.outliers is not None:
            if self.outliers == self.dataset:
                raise ValueError(f"outliers is {self.outliers}: must not be what the victim is trained on")
            for name in ("weights", "noise_multiplier"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is {getattr(self, name)}: must not be given where outliers are")
        privacy = None
        if self.noise_multiplier is not None:
            privacy = training.Privacy(self.clip, self.noise_multiplier, self.seed)
        return training.Recipe(
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.momentum,
            decay_every=self.decay_every,
            weight_decay=self.weight_decay,
            augment=augment_for(self.augmentation),
            privacy=privacy,
        )


@functools.lru_cache(maxsize=4)
def victim(options: VictimOptions, runs: Path, data_dir: Path | None) -> Any:
    """Train the victim, or load it if that has been done; of several processes one trains, and the others wait.

    Raises:
        ValueError: for options that contradict each other, data that is not prepared, or weights of another network.
    """
    import jax

    from pp_jax import data, records
    from pp_jax.evaluation import Victim

    folder, settings = runs / "victims", {"victim": options.settings()}
    recipe = options.recipe()
    test = data.load(options.dataset, "test", data_dir=data_dir)
    train = data.load(options.dataset, "train", data_dir=data_dir)
    train = train if options.train_size is None else train.take(options.train_size)
    network = network_for(options.model, test.num_classes, test.image_shape)
    like = jax.eval_shape(lambda: network.init(jax.random.key(0), test.image_shape))
    own = folder / f"{records.key(settings)}.safetensors"
    weights = options.weights_file or own

    def ready() -> bool:
        return weights.exists() and records.find(folder, settings) is not None

    if not ready():
        records.check_writable(folder)
        with records.claim(folder, settings, wait=True):
            if not ready():
                _make(options, network, like, train, test, weights, folder, data_dir)
    network, params = stored(weights, network, like=like)
    # Here, where a process that was killed after its last write comes along as well.
    records.discard(own.with_suffix(".partial"))
    return Victim(
        network,
        params,
        train.images,
        train.labels,
        dataclasses.replace(recipe, privacy=None),
        options.dataset,
        {name: value for name, value in options.settings().items() if name != "dataset"},
        options.seed,
    )


def untrained(options: VictimOptions, data_dir: Path | None) -> Any:
    """A victim before its training, to check against what is to be done with it."""
    import jax

    from pp_jax import data
    from pp_jax.evaluation import Victim

    train = data.load(options.dataset, "train", data_dir=data_dir)
    network = network_for(options.model, train.num_classes, train.image_shape)
    params = network.init(jax.random.key(0), train.image_shape)
    if options.weights_file is not None:
        network, _ = stored(options.weights_file, network, like=params)
    return Victim(network, params, train.images, train.labels, options.recipe())


def accuracy(options: VictimOptions, runs: Path) -> float:
    """Test accuracy of a victim that has been trained, as its record has it."""
    from pp_jax import records

    record = records.find(runs / "victims", {"victim": options.settings()})
    if record is None:
        raise ValueError(f"there is no victim {options.settings()} in {runs / 'victims'}: train it first")
    return float(record.result["accuracy"])


def _make(
    options: VictimOptions, network: Any, like: Any, train: Any, test: Any, weights: Path, folder: Path,
    data_dir: Path | None,
) -> None:  # fmt: skip
    """Train the victim unless its weights are given, judge it, and write weights and record."""
    from pp_jax import checkpoints, metrics, records

    started, settings = time.perf_counter(), {"victim": options.settings()}
    result: dict[str, Any] = {}
    if options.weights is not None:
        network, params = stored(weights, network, like=like)
    else:
        result.update(privacy(options, len(train)))
        params = _fit(options, network, train, weights.with_suffix(".partial"), settings, data_dir)
        checkpoints.save(weights, params, metadata=settings)
    result["accuracy"] = metrics.accuracy(metrics.predict(network, params, test.images), test.labels)
    timings = {"train_s": time.perf_counter() - started}
    records.write(folder, kind="victim", config=settings, result=result, timings=timings)


def _fit(
    options: VictimOptions, network: Any, train: Any, partial: Path, settings: dict[str, Any], data_dir: Path | None
) -> Any:
    """Train with a progress bar; killed, go on from what `partial` keeps."""
    import jax
    import numpy as np
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pp_jax import training
    from pp_jax.training.losses import OutlierExposure

    recipe, targets, more = options.recipe(), train.labels, {}
    if options.outliers is not None:
        foreign = outlier_images(options.outliers, train.image_shape, data_dir)
        more = {"loss": OutlierExposure(options.outlier_weight, augment=recipe.augment), "unlabelled": foreign}
        recipe = dataclasses.replace(recipe, augment=None)
        targets = np.eye(train.num_classes, dtype=np.float32)[train.labels]
    columns = (
        *Progress.get_default_columns()[:-1],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task("training the victim", total=options.epochs, loss="")
        return training.fit_resumably(
            partial,
            jax.random.key(options.seed),
            network,
            train.images,
            targets,
            recipe,
            identity=settings,
            on_epoch=lambda state, loss: bars.update(bar, completed=state.epoch, loss=f"loss {loss:.4f}"),
            **more,
        )


def privacy(options: VictimOptions, images: int) -> dict[str, float | None]:
    """ε of the differential privacy of a DP-SGD victim at δ = 1e-5, to be kept in its record; nothing for others."""
    guarantee = options.recipe().privacy
    if guarantee is None:
        return {}
    epsilon = guarantee.epsilon(examples=images, batch_size=options.batch_size, epochs=options.epochs)
    return {"dp_epsilon": epsilon if epsilon < float("inf") else None, "dp_delta": 1e-5}


def augment_for(augmentation: Augmentation) -> Any:
    """The change to training images of a name, or None."""
    from pp_jax import augmentation as augmentations

    return {"none": None, "cifar": augmentations.CIFAR, "imagenet": augmentations.IMAGENET}[augmentation]


def network_for(model: Model, num_classes: int, image_shape: tuple[int, int, int]) -> Any:
    """The Flax network of a name, for images of a shape; colour images are normalised as ImageNet's are."""
    from pp_jax import models

    height, _, channels = image_shape
    pixels: dict[str, Any] = {}
    if channels == 3:
        pixels = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    small = height < 96
    makers = {
        "lenet": lambda: models.lenet(num_classes, **pixels),
        "mlp": lambda: models.mlp(num_classes, **pixels),
        "vgg16_bn": lambda: models.vgg16_bn(num_classes, image_size=32 if small else 224, **pixels),
        "resnet18": lambda: models.resnet18(num_classes, small_images=small, **pixels),
        "resnet34": lambda: models.resnet34(num_classes, small_images=small, **pixels),
        "resnet50": lambda: models.resnet50(num_classes, small_images=small, **pixels),
        "wrn_40_2": lambda: models.wrn_40_2(num_classes, **pixels),
    }
    return makers[model]()


def stored(path: Path, network: Any, *, like: Any = None) -> tuple[Any, Any]:
    """The network and its parameters as a checkpoint has them: with the normalisation that it was trained with.

    Raises:
        ValueError: for a file that is no checkpoint, or one of another network than `like` is of.
    """
    from pp_jax import checkpoints

    params, metadata = checkpoints.load(path, like=like)
    pixels = {name: tuple(metadata[name]) for name in ("mean", "std") if name in metadata}
    return dataclasses.replace(network, **pixels), params


def outlier_images(dataset: str, image_shape: tuple[int, int, int], data_dir: Path | None) -> Any:
    """The training images of a data set at the size of a victim's, (N, H, W, C).

    Raises:
        ValueError: where one is grey and the other coloured.
    """
    from pp_jax import data

    found = data.load(dataset, "train", data_dir=data_dir)
    if found.image_shape[-1] != image_shape[-1]:
        raise ValueError(
            f"outliers {dataset} have {found.image_shape[-1]} channels: must have {image_shape[-1]} as the victim's"
        )
    return (found if found.image_shape == image_shape else resized(found, image_shape)).images


def resized(found: Any, image_shape: tuple[int, int, int]) -> Any:
    """A data set with its images scaled to a victim's size: area average or bicubic, by Pillow."""
    import numpy as np
    from PIL import Image

    height, width, _ = image_shape
    smaller = found.image_shape[0] >= height and found.image_shape[1] >= width
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    scaled = [np.asarray(Image.fromarray(image.squeeze()).resize((width, height), method)) for image in found.images]
    return dataclasses.replace(found, images=np.stack(scaled).reshape(len(found), height, width, -1))


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, changed: int) -> str:
    """The digest of a file as it was when it was last changed; many runs ask for the same one."""
    del changed
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
