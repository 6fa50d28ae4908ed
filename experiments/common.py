"""What the scripts share: options of the command line, and the values that they stand for."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments import victims
from experiments.victims import Augmentation, Model, VictimOptions
from pp_jax._command import sentence
from pp_jax._files import expanded

PROBE = "font_letters"
"""A pool that is there on every machine, for the queries that tell an attacker what is answered truly."""

UserPath = Annotated[
    Path,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: expanded(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A path on a command line; `~` is the home folder, also in `--runs=~/runs`, which shells leave as it is."""

Batching = Literal["auto", "vmap", "chunk", "loop"]
Equal = Literal["accuracy", "l1"]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]


@dataclasses.dataclass(frozen=True)
class AttackOptions:
    """What all attackers of a script have in common."""

    pool: str = "font_letters"
    """Whose training images are queried, a name of `python -m pp_jax.data list`."""
    split: str = "train"
    """Which split of the pool."""
    resize: bool = False
    """Scale the pool's images to the size of the victim's."""
    budget: int = 10_000
    """Queries; one image is one query."""
    model: Model = "lenet"
    """The attacker's architecture."""
    epochs: int = 12
    """Passes over the transfer set."""
    batch_size: int = 64
    """Images a step."""
    optimizer: Optimizer = "sgd"
    """Of the attacker."""
    learning_rate: float = 0.1
    """Of the optimiser."""
    momentum: float = 0.5
    """Of SGD."""
    decay_every: int = 50
    """Epochs after which the learning rate falls to a tenth."""
    weight_decay: float = 0.0
    """L2 penalty."""
    augmentation: Augmentation = "none"
    """Flips and crops of the transfer set."""
    start: str | None = None
    """Start from weights trained on the labels of this data set, or from a .safetensors file."""

    @property
    def start_file(self) -> Path | None:
        """The file that attackers start from, where that is what `start` names."""
        if self.start is None:
            return None
        path = expanded(self.start)
        return path if path.suffix == ".safetensors" or path.is_file() else None

    def recipe(self) -> Any:
        """How the attacker trains."""
        import optax

        from pp_jax import training

        rules = {"adam": optax.adam, "adamw": optax.adamw, "rmsprop": optax.rmsprop, "adagrad": optax.adagrad}
        return training.Recipe(
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.momentum,
            decay_every=self.decay_every,
            weight_decay=self.weight_decay,
            rule=rules.get(self.optimizer),
            augment=victims.augment_for(self.augmentation),
        )


@dataclasses.dataclass(frozen=True)
class MachineOptions:
    """Where runs are computed; results do not depend on it, up to floating-point rounding."""

    batching: Batching = "auto"
    """Train stolen models as one program, some at a time, or one after another; auto asks the hardware."""
    memory_gib: float | None = None
    """What runs that are computed at once may take of the device; most of what is free by default."""
    ray: str | None = None
    """A run per task on a Ray cluster: its address, `auto` for the one this machine belongs to, `local` for one of
    this machine alone. It must share the folders of results and data (`pip install 'pp-jax[ray]'`)."""
    cpus: float = 1.0
    """Ray: processors that a run reserves."""
    gpus: float = 0.0
    """Ray: GPUs that a run reserves."""
    retries: int = 3
    """Ray: how often a run is begun again whose worker died."""

    def machines(self) -> Any:
        """The value."""
        from pp_jax.evaluation import Machines

        return Machines(**dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Options:
    """Victim, attackers, seeds and folders."""

    victim: VictimOptions = dataclasses.field(default_factory=VictimOptions)
    attack: AttackOptions = dataclasses.field(default_factory=AttackOptions)
    seeds: tuple[int, ...] = (0,)
    """Each repeats every attack with other queries, another surrogate and another key; the victim stays."""
    outliers: str | None = None
    """Images of another distribution that the defender owns, for defenses that need them; never the pool."""
    runs: UserPath = Path("runs")
    """Folder of all results."""
    data_dir: UserPath | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    machines: tyro.conf.OmitArgPrefixes[MachineOptions] = dataclasses.field(default_factory=MachineOptions)

    def test(self) -> Any:
        """What everyone is judged on."""
        return images(self.victim.dataset, "test", self.data_dir)

    def pool(self) -> Any:
        """What attackers query."""
        shape = self.test().images.shape[1:]
        found = images(self.attack.pool, self.attack.split, self.data_dir, shape if self.attack.resize else None)
        if found.images.shape[1:] != shape:
            raise ValueError(
                f"pool {self.attack.pool} has images {found.images.shape[1:]}: must be {shape} as those of "
                f"{self.victim.dataset} (--attack.resize scales them)"
            )
        return found

    def network(self) -> Any:
        """The attacker's architecture; it normalises pixels as the file does that it starts from."""
        test = self.test()
        network = victims.network_for(self.attack.model, len(test.class_names), test.images.shape[1:])
        file = self.attack.start_file
        return network if file is None else victims.stored(file, network)[0]

    def start(self) -> Any:
        """The parameters that attackers start from, or None for fresh ones; a last layer of other classes is fresh."""
        import jax

        source, file = self.attack.start, self.attack.start_file
        if source is None:
            return None
        network = self.network()
        if file is not None:
            given = victims.stored(file, network)[1]
        else:
            options = VictimOptions(source, self.attack.model)
            given = victims.victim(options, self.runs, self.data_dir).params
        fresh = network.init(jax.random.key(self.victim.seed), self.test().images.shape[1:])
        ours: Any = jax.tree.structure(fresh)
        if ours != jax.tree.structure(given):
            raise ValueError(f"start is {source}: must hold the layers of {self.attack.model} (--attack.model)")
        return jax.tree.map(lambda new, old: old if new.shape == old.shape else new, fresh, given)

    def owned(self) -> Any:
        """The defender's images of another distribution, or None."""
        if self.outliers is None:
            return None
        for name, who in ((self.victim.dataset, "what the victim is trained on"), (self.attack.pool, "the pool")):
            if self.outliers == name:
                raise ValueError(f"outliers is {name}: must not be {who}")
        return victims.outlier_images(self.outliers, self.test().images.shape[1:], self.data_dir)

    def probe(self) -> Any:
        """Another pool, that attackers may spend a few queries on: rendered letters, unless these are the pool."""
        if PROBE in (self.attack.pool, self.victim.dataset):
            return None
        try:
            found = images(PROBE, "train", self.data_dir)
        except ValueError:  # not prepared: attackers do without
            return None
        return found if found.images.shape[1:] == self.test().images.shape[1:] else None

    def own(self) -> Any:
        """Labelled images that attackers with images of their own choose from, of the victim's training set."""
        return images(self.victim.dataset, "train[-1000:]", self.data_dir)

    def trained(self, *, exposed: bool = False) -> Any:
        """The victim, trained or found again; with its outlier-exposed twin where a defense asks for one."""
        victim = victims.victim(self.victim, self.runs, self.data_dir)
        if not exposed:
            return victim
        options = dataclasses.replace(self.victim, outliers=self.outliers or "omniglot_28")
        return dataclasses.replace(victim, exposed=victims.victim(options, self.runs, self.data_dir))

    def evaluate(self, defenses: Iterable[Any], attackers: Any, folder: str, **options: Any) -> Any:
        """`pp_jax.evaluate` with these options; everything is checked before the victim is trained."""
        from pp_jax import evaluation

        victim, rows, arguments = self.checked(defenses, attackers, folder, **options)
        return evaluation.evaluate(victim, rows, **arguments)

    def checked(
        self, defenses: Iterable[Any], attackers: Any, folder: str, **options: Any
    ) -> tuple[Any, list[Any], dict[str, Any]]:
        """The trained victim, the rows, and what else `pp_jax.evaluate` takes; checked before the victim is trained."""
        from pp_jax import evaluation, records

        machines = self.machines.machines()
        if machines.ray is not None:
            from pp_jax.evaluation import ray_cluster

            ray_cluster.connect(machines.ray)  # first: a local cluster is forked, and JAX is about to start threads
        amount = {name: options[name] for name in ("equal", "at") if name in options}
        rows = evaluation.check(defenses, attackers, self.seeds, **amount)
        pool, test, recipe, owned = options.get("pool") or self.pool(), self.test(), self.attack.recipe(), self.owned()
        evaluation.check_budget(self.attack.budget, pool, attackers)
        defaults: dict[str, Any] = {
            "pool": pool,
            "test": test,
            "budget": self.attack.budget,
            "attackers": attackers,
            "seeds": self.seeds,
            "network": self.network(),
            "recipe": recipe,
            "outliers": owned,
            "start": self.start(),
            "probe": self.probe(),
            "own": self.own() if any(attacker.own for attacker in attackers) else None,
            "runs_folder": self.runs / folder,
            "machines": machines,
        }
        arguments = {**defaults, **options}
        untrained = victims.untrained(self.victim, self.data_dir)
        classes, shape = len(test.class_names), test.images.shape[1:]
        guess = options.get("presumed") or arguments["network"]
        evaluation.rehearse(rows, untrained, guess, classes, shape, outliers=owned)
        records.check_writable(self.runs / folder)
        return self.trained(exposed=any(row.exposed for row in rows)), rows, arguments


@functools.lru_cache(maxsize=8)
def images(name: str, split: str, data_dir: Path | None, size: tuple[int, int, int] | None = None) -> Any:
    """A prepared set as `evaluation.Images`, loaded once; scaled to a size where one is given."""
    from pp_jax import data
    from pp_jax.evaluation import Images

    found = data.load(name, split, data_dir=data_dir)
    if size is not None and found.image_shape != size:
        found = victims.resized(found, size)
    return Images(found.images, found.labels, name, tuple(found.class_names))


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """What went wrong as one line, and exit status 1; a stop by the keyboard as well."""
    try:
        yield
    except BrokenPipeError:  # who reads the output has gone: `command` ends the script in silence
        raise
    except (ValueError, OSError) as error:
        sys.exit(f"error: {sentence(error)}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the finished runs")


def show(make: Callable[[], Any], path: Path) -> None:
    """Compute a table, write it and print it; what went wrong as one line."""
    from pp_jax import _files

    with errors():
        _files.check_replaceable(path)
        table = make()
        table.write(path)
    table.print()
    print(path)


def known_classes(pool: Any) -> Any:
    """What an adaptive attacker knows of a pool: classes, (N,), or for CIFAR-100 superclasses and classes, (N, 2)."""
    import numpy as np

    from pp_jax.data import labels

    if pool.name != "cifar100":
        return pool.labels
    return np.stack([np.asarray(labels.CIFAR100_COARSE_OF_FINE)[pool.labels], pool.labels], axis=1)


def parsed(texts: Sequence[str]) -> list[Any]:
    """Defenses from the command line."""
    from pp_jax.evaluation import named

    return [named.defense(text) for text in texts]


def attacker_set(texts: Sequence[str]) -> Any:
    """Attackers from the command line: a named set alone, or members of several."""
    from pp_jax.evaluation import ACTIVE, OWN_IMAGES, QUICK, STANDARD, AttackerSet, named

    sets = {"standard": STANDARD, "quick": QUICK, "active": ACTIVE, "own": OWN_IMAGES}
    if len(texts) == 1 and texts[0] in sets:
        return sets[texts[0]]
    members = [attacker for text in texts for attacker in (sets[text] if text in sets else [named.attacker(text)])]
    unique = tuple({attacker.name: attacker for attacker in members}.values())
    return AttackerSet("custom", "none", unique)
