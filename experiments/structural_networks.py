"""What an API gives away of a network itself: its parameters from responses or gradients, and how it was trained.

    python -m experiments.structural_networks                        # MNIST, about 10 minutes on 2 CPU cores

Three attacks. Two-layer ReLU networks of some sizes are trained and extracted from their float64 posteriors, and
reconstructed from their input gradients; random networks of fewer inputs as well. Then 600 small perceptrons with
random attributes are trained as one program on images of half the size, and a classifier learns to tell their
attributes from 100 posteriors (kennen-o), of networks that it has not seen, under some defenses; kennen-i needs one
label. An attacker either has the defense for its own networks too, or knows of none. Expected on MNIST: maximum error
of the extracted log-posteriors below 1e-6 (docs/results/structural_networks.md). Writes `parameters.md` and
`attributes.md` into `runs/structural_networks`.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import tyro

from experiments import common
from pp_jax._command import command

# Inputs, hidden units and classes of the random networks.
RANDOM = ((10, 16, 10), (10, 64, 10), (50, 64, 10))


@dataclasses.dataclass(frozen=True)
class Config:
    """Networks and how they are attacked."""

    dataset: str = "mnist"
    """Whose images the networks are trained on, a name of `python -m pp_jax.data list`."""
    parts: tuple[Literal["parameters", "attributes"], ...] = ("parameters", "attributes")
    """Which tables."""
    hidden: tuple[int, ...] = (32,)
    """Hidden units of the two-layer networks."""
    epochs: int = 3
    """Of their training."""
    budget: int = 200_000
    """Queries that an extraction may spend."""
    networks: int = 600
    """How many networks attributes are learned from; a quarter of them is kept for the test."""
    steps: int = 200
    """Of their training."""
    train_size: int = 20_000
    """Of how many images."""
    queries: int = 100
    """How many test images each is asked about, the last ones of the first 1100."""
    decimals: int = 2
    """Of the posteriors behind rounding."""
    epsilon: float = 0.5
    """Budget of MAD, with an untrained surrogate."""
    seed: int = 0
    """Of everything."""
    runs: common.UserPath = Path("runs")
    """Folder of all results."""
    data_dir: common.UserPath | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    folder: str = "structural_networks"
    """Where below `runs` the tables go."""

    def images(self, split: str) -> Any:
        """A split of the data."""
        return common.images(self.dataset, split, self.data_dir)


def parameters(config: Config) -> Iterator[list[str]]:
    """A row for each network and each way to its parameters."""
    import jax
    import numpy as np

    from pp_jax import BlackBox, models, training
    from pp_jax.attacks import structural

    train, test = config.images("train"), config.images("test")
    classes, shape = len(test.class_names), test.images.shape[1:]
    fresh = np.asarray(test.images, np.float64).reshape(len(test.images), -1) / 255
    key = jax.random.key(config.seed + 1)
    for hidden in config.hidden:
        network = models.mlp(classes, hidden=(hidden,))
        recipe = training.Recipe(config.epochs)
        params = training.fit(jax.random.key(config.seed), network, train.images, train.labels, recipe)
        true, name = structural.of_mlp(params), f"{config.dataset}, {fresh.shape[1]}-{hidden}-{classes}"
        with jax.enable_x64(True):
            api, explain = BlackBox(network, params).api(), structural.explainer(network, params)
            extract = functools.partial(structural.extract_relu, key, api, shape, budget=config.budget)
            yield _row(f"{name}, posteriors", true, fresh, extract, posteriors=True)
            rebuild = functools.partial(
                structural.reconstruct_from_gradients, key, explain, shape, budget=config.budget
            )
            yield _row(f"{name}, gradients", true, fresh, rebuild)
    rng = np.random.default_rng(config.seed)
    for inputs, hidden, outputs in RANDOM:
        weights = rng.normal(size=(hidden, inputs))
        offsets = -(weights * rng.uniform(0.2, 0.8, weights.shape)).sum(1)
        true = structural.TwoLayer(weights, offsets, rng.normal(size=(outputs, hidden)), rng.normal(size=outputs))
        extract = functools.partial(
            structural.extract_relu, key, true.__call__, (inputs,), budget=config.budget, logits=True
        )
        yield _row(f"random, {inputs}-{hidden}-{outputs}, logits", true, rng.uniform(size=(10_000, inputs)), extract)


def _row(name: str, true: Any, fresh: Any, attack: Callable[[], Any], *, posteriors: bool = False) -> list[str]:
    """What an attack on a network comes to."""
    import numpy as np

    from pp_jax.attacks import structural

    started = time.process_time()
    found = attack()
    seconds = time.process_time() - started
    ours, theirs = found.network(fresh), true(fresh)
    agree = 100 * float(np.mean(ours.argmax(1) == theirs.argmax(1)))
    if posteriors:
        ours, theirs = (outputs - outputs.mean(1, keepdims=True) for outputs in (ours, theirs))
    kept = structural.switching_units(true, 0, 1)
    visible = structural.TwoLayer(true.weights[kept], true.offsets[kept], true.output[:, kept], true.bias)
    apart = (
        structural.parameter_difference(found.network, visible, posteriors=posteriors)
        if not found.extra
        else float("nan")
    )
    error = float(np.abs(ours - theirs).max())
    numbers = (f"{found.units} of {len(true.weights)}", str(found.queries), f"{error:.1e}", f"{apart:.1e}")
    print(name, *numbers, file=sys.stderr)
    return [name, *numbers, f"{agree:.2f}", f"{seconds:.0f}"]


def attributes(config: Config) -> list[list[str]]:
    """A row for each attribute: chance, kennen-o, the same behind each defense, and kennen-i."""
    import jax

    from pp_jax.attacks import structural

    train, test = config.images("train"), config.images("test")
    small, labels = halved(train.images[: config.train_size]), train.labels[: config.train_size]
    many = structural.train_population(
        jax.random.key(config.seed), small, labels, config.networks, classes=len(test.class_names), steps=config.steps
    )
    images = halved(test.images[:1100])
    return told(config, many, images[-config.queries :], images[:8])


def told(config: Config, many: Any, asked: Any, starts: Any) -> list[list[str]]:
    """The same for networks that are trained, queries, and where kennen-i starts."""
    import jax
    import numpy as np

    from pp_jax import MAD, Rounding, Top1, models, perturb
    from pp_jax.attacks import structural

    meta_key, input_key, surrogate_key = (jax.random.key(config.seed + number) for number in (1, 2, 3))
    known = config.networks * 3 // 4
    own, new = many.some(slice(known)), many.some(slice(known, None))
    clean = many.posteriors(asked)
    right: dict[str, list[float]] = {name: [] for name in own.attributes}

    def judge(found: Any) -> None:
        for name, values in found.items():
            right[name].append(float(np.mean(values == new.attributes[name])))

    plain = structural.kennen_o(meta_key, clean[:known], own.attributes)
    judge(plain(clean[known:]))
    surrogate = models.mlp(clean.shape[-1], hidden=(32,))
    weights = surrogate.init(surrogate_key, asked.shape[1:])
    for defense in (Rounding(config.decimals), Top1(), MAD(surrogate, weights, config.epsilon)):
        behind = np.stack([np.asarray(perturb(defense, one, asked)) for one in clean])
        judge(plain(behind[known:]))
        judge(structural.kennen_o(meta_key, behind[:known], own.attributes)(behind[known:]))
    rows = []
    for name, shares in right.items():
        crafted = structural.kennen_i(input_key, own, name, starts)
        label = new.posteriors(crafted.image[None])[:, 0].argmax(-1)
        by_input = float(np.mean(crafted(label) == new.attributes[name]))
        chance = np.bincount(new.attributes[name]).max() / len(label)
        pairs = [f"{100 * a:.0f} / {100 * b:.0f}" for a, b in zip(shares[1::2], shares[2::2], strict=True)]
        rows.append([name, *(f"{100 * share:.0f}" for share in (chance, shares[0])), *pairs, f"{100 * by_input:.0f}"])
    return rows


def halved(images: Any) -> Any:
    """Images of half the size, the mean of each 2 × 2 pixels, as float32 in [0, 1]."""
    import numpy as np

    count, height, width, channels = np.shape(images)
    even = np.asarray(images[:, : height // 2 * 2, : width // 2 * 2], np.float32)
    means = even.reshape(count, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    return means / 255 if images.dtype == np.uint8 else means


def run(config: Config) -> dict[str, Any]:
    """The tables by name."""
    from pp_jax import records
    from pp_jax.results.tables import Table, provenance

    note, found = provenance([SimpleNamespace(environment=records.environment())]), {}
    if "parameters" in config.parts:
        headings: tuple[str, ...] = ("network, what the API responds", "units", "queries")
        headings += ("output error", "parameter error", "labels alike %", "processor s")
        found["parameters"] = Table(
            "Two-layer ReLU networks, stolen",
            headings,
            list(parameters(config)),
            "Errors are maxima: of centred log-posteriors, or logits, at the test images (random networks: random "
            f"inputs), and of parameters up to order and scale of the units. {note}",
        )
    if "attributes" in config.parts:
        behind = (f"rounding, {config.decimals} decimals", "top-1", f"MAD, ε = {config.epsilon:g}")
        found["attributes"] = Table(
            f"Attributes of {config.networks - config.networks * 3 // 4} new networks, {config.dataset}",
            ("attribute, accuracy %", "chance", "kennen-o", *behind, "kennen-i"),
            attributes(config),
            f"Behind a defense: for an attacker who knows of none / who has it before its own networks. {note}",
        )
    return found


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    with common.errors():
        tables = run(config)
    for name, table in tables.items():
        path: Path = table.write(config.runs / config.folder / f"{name}.md")
        table.print()
        print(path)


if __name__ == "__main__":
    main()
