"""Train the model that will be stolen.

    python experiments/train_victim.py                      # LeNet on MNIST, 4 epochs

takes about 90 seconds on 2 CPU cores and reaches 99.3 % on MNIST's test images. Writes the parameters
(`runs/victims/<hash>.safetensors`) and a record beside them; killed, it goes on after the last whole epoch.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, Literal

import tyro

Model = Literal["lenet"]


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
    seed: int = 0
    """Of initialisation and order."""

    def recipe(self) -> Any:
        """How the victim is trained."""
        from pp_jax import training

        return training.Recipe(
            self.epochs, self.batch_size, self.learning_rate, self.momentum, decay_every=self.decay_every
        )


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


def network_for(model: Model, num_classes: int) -> Any:
    """The Flax network of a name."""
    from pp_jax import models

    return {"lenet": models.lenet}[model](num_classes)


def run(config: Config) -> Trained:
    """Train the victim, or load it if that has been done."""
    import jax

    from pp_jax import checkpoints, data, records

    folder = config.runs / "victims"
    settings = {"victim": dataclasses.asdict(config.victim)}
    weights = folder / f"{records.key(settings)}.safetensors"
    test = data.load(config.victim.dataset, "test", data_dir=config.data_dir)
    network = network_for(config.victim.model, test.num_classes)
    if (record := records.find(folder, settings)) and weights.exists():
        like = jax.eval_shape(lambda: network.init(jax.random.key(0), test.image_shape))
        return Trained(network, checkpoints.load(weights, like)[0], record.result["accuracy"])

    records.check_writable(folder)
    train = data.load(config.victim.dataset, "train", data_dir=config.data_dir)
    train = train if config.victim.train_size is None else train.take(config.victim.train_size)
    started = time.perf_counter()
    params = fit_resumably(
        config.victim.seed, network, train, config.victim.recipe(), weights.with_suffix(".partial"), settings
    )
    accuracy = _accuracy(network, params, test)
    checkpoints.save(weights, params, metadata=settings)
    timings = {"train_s": time.perf_counter() - started}
    records.write(folder, kind="victim", config=settings, result={"accuracy": accuracy}, timings=timings)
    weights.with_suffix(".partial").unlink(missing_ok=True)
    return Trained(network, params, accuracy)


def fit_resumably(seed: int, network: Any, train: Any, recipe: Any, partial: Path, settings: dict[str, Any]) -> Any:
    """Train with a progress bar, keeping the state of every epoch in `partial`, and start from there if it exists."""
    import jax
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pp_jax import checkpoints, training

    steps = len(train) // min(recipe.batch_size, len(train))
    fresh = training.start(jax.random.key(0), network, train.image_shape, recipe.optimizer(steps))
    state = None
    if partial.exists():
        like = _storable(fresh)
        saved, metadata = checkpoints.load(partial, like)
        state = training.State(
            saved["params"], jax.tree.unflatten(jax.tree.structure(fresh.optimizer), saved["optimizer"].values()),
            metadata["epoch"],
        )  # fmt: skip
    columns = (
        *Progress.get_default_columns()[:-1],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns) as bars:
        bar = bars.add_task("training the victim", total=recipe.epochs, completed=state.epoch if state else 0, loss="")

        def keep(state: Any, loss: float) -> None:
            checkpoints.save(partial, _storable(state), metadata={**settings, "epoch": state.epoch})
            bars.update(bar, completed=state.epoch, loss=f"loss {loss:.4f}")

        return training.fit(
            jax.random.key(seed), network, train.images, train.labels, recipe, state=state, on_epoch=keep
        )


def _storable(state: Any) -> dict[str, Any]:
    """A training state as the nested dicts that a checkpoint holds."""
    import jax

    leaves = jax.tree.leaves(state.optimizer)
    return {"params": state.params, "optimizer": {f"{i:03d}": leaf for i, leaf in enumerate(leaves)}}


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
    name = records.key({"victim": dataclasses.asdict(config.victim)})
    print(f"test accuracy {100 * trained.accuracy:.2f} %   {config.runs / 'victims' / name}.safetensors")


if __name__ == "__main__":
    main()
