"""Train the model that will be stolen.

    python experiments/train_victim.py                      # LeNet on MNIST, 4 epochs

takes about 90 seconds on 2 CPU cores and reaches 99.3 % on MNIST's test images. Writes the parameters
(`runs/victims/<hash>.safetensors`) and a record beside them; killed, it goes on after the last whole epoch.
"""

import dataclasses
import functools
import hashlib
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Literal

import tyro

from owners import outliers

Model = Literal["lenet", "mlp", "vgg16_bn", "resnet18", "resnet34", "resnet50", "wrn_40_2"]
Augmentation = Literal["none", "cifar", "imagenet"]


@dataclasses.dataclass(frozen=True)
class Victim:
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
    """Start from these instead of training: a file that `python -m pp_jax.models import-torch` or this script wrote."""
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
        if self.weights is not None:
            if not self.weights.exists():
                raise ValueError(f"weights is {self.weights}: there is no such file")
            digest = _sha256(self.weights, self.weights.stat().st_mtime_ns)
            return {"dataset": self.dataset, "model": self.model, "weights_sha256": digest}
        return chosen

    def recipe(self) -> Any:
        """How the victim is trained."""
        from pp_jax import training

        if self.outliers is not None:
            outliers.check(self.outliers, victims=self.dataset)
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


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, changed: int) -> str:
    """The digest of a file as it was when it was last changed; many cells ask for the same one."""
    del changed
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a victim and keep it."""

    victim: tyro.conf.OmitArgPrefixes[Victim] = dataclasses.field(default_factory=Victim)
    runs: Path = Path("runs")
    """Folder of all results."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A victim ready to answer."""

    network: Any
    params: Any
    accuracy: float
    """Share of the test images that it gets right."""


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


def run(config: Config) -> Trained:
    """Train the victim, or load it if that has been done; of several processes one trains, and the others wait."""
    import jax

    from pp_jax import data, records

    victim, folder = config.victim, config.runs / "victims"
    test = data.load(victim.dataset, "test", data_dir=config.data_dir)
    network = network_for(victim.model, test.num_classes, test.image_shape)
    like = jax.eval_shape(lambda: network.init(jax.random.key(0), test.image_shape))
    settings = {"victim": victim.settings()}
    victim.recipe()  # refused before anything is written
    own = folder / f"{records.key(settings)}.safetensors"
    weights = victim.weights or own
    record = records.find(folder, settings)
    if record is None or not weights.exists():
        records.check_writable(folder)
        with records.claim(folder, settings, wait=True):
            record = records.find(folder, settings)
            if record is None or not weights.exists():
                _make(config, network, like, test, weights, settings)
                record = records.load(own.with_suffix(".json"))
    params = load_weights(weights, network, like)
    # Here, where a process that was killed after its last write comes along as well.
    shutil.rmtree(own.with_suffix(".partial"), ignore_errors=True)
    return Trained(network, params, record.result["accuracy"])


def _make(config: Config, network: Any, like: Any, test: Any, weights: Path, settings: dict[str, Any]) -> None:
    """Train the victim unless its weights are given, judge it, and write weights and record."""
    from pp_jax import checkpoints, records

    victim, folder = config.victim, config.runs / "victims"
    started = time.perf_counter()
    result: dict[str, Any] = {}
    if victim.weights is not None:
        params = load_weights(weights, network, like)
    else:
        train = training_set(victim, config.data_dir)
        result.update(privacy(victim, len(train)))
        if victim.outliers is None:
            params = _fit(victim, network, train, weights.with_suffix(".partial"), settings)
        else:
            params = _expose(victim, network, train, config.data_dir)
        checkpoints.save(weights, params, metadata=settings)
    result["accuracy"] = _accuracy(network, params, test)
    timings = {"train_s": time.perf_counter() - started}
    records.write(folder, kind="victim", config=settings, result=result, timings=timings)


def training_set(victim: Victim, data_dir: Path | None) -> Any:
    """The images and labels that a victim is trained on."""
    from pp_jax import data

    train = data.load(victim.dataset, "train", data_dir=data_dir)
    return train if victim.train_size is None else train.take(victim.train_size)


def load_weights(path: Path, network: Any, like: Any) -> Any:
    """The parameters in a checkpoint, refused where they were made for other pixels than the network sees."""
    from pp_jax import checkpoints

    params, metadata = checkpoints.load(path, like=like)
    for name, own in (("mean", network.mean), ("std", network.std)):
        if tuple(metadata.get(name, own)) != own:
            raise ValueError(f"{path} is for images with {name} {metadata[name]}: must be {own}; import it with these")
    return params


def privacy(victim: Victim, images: int) -> dict[str, float | None]:
    """ε of the differential privacy of a DP-SGD victim at δ = 1e-5, to be kept in its record; nothing for others."""
    guarantee = victim.recipe().privacy
    if guarantee is None:
        return {}
    epsilon = guarantee.epsilon(examples=images, batch_size=victim.batch_size, epochs=victim.epochs)
    return {"dp_epsilon": epsilon if epsilon < float("inf") else None, "dp_delta": 1e-5}


def _fit(victim: Victim, network: Any, train: Any, partial: Path, settings: dict[str, Any]) -> Any:
    """Train with a progress bar; killed, go on from what `partial` keeps."""
    import jax
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pp_jax import training

    columns = (
        *Progress.get_default_columns()[:-1],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns) as bars:
        bar = bars.add_task("training the victim", total=victim.epochs, loss="")
        return training.fit_resumably(
            partial,
            jax.random.key(victim.seed),
            network,
            train.images,
            train.labels,
            victim.recipe(),
            identity=settings,
            on_epoch=lambda state, loss: bars.update(bar, completed=state.epoch, loss=f"loss {loss:.4f}"),
        )


def _expose(victim: Victim, network: Any, train: Any, data_dir: Path | None) -> Any:
    """Train with outlier exposure."""
    foreign = outliers.load(victim.outliers or "", train.image_shape, data_dir)
    recipe = victim.recipe()
    loss = outliers.Exposed(victim.outlier_weight, recipe.augment)
    return outliers.fit(victim.seed, network, train, foreign, recipe, loss=loss, title="training the exposed victim")


def _accuracy(network: Any, params: Any, test: Any) -> float:
    """Share of test images that the network gets right."""
    from pp_jax import metrics

    return metrics.accuracy(metrics.predict(network, params, test.images), test.labels)


def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    from pp_jax import records

    try:
        trained = run(config)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    name = records.key({"victim": config.victim.settings()})
    print(f"test accuracy {100 * trained.accuracy:.2f} %   {config.runs / 'victims' / name}.json")


if __name__ == "__main__":
    main()
