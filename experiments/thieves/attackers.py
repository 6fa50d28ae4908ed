"""Every attacker of the experiments by name: how it chooses its queries, and how it trains on the answers."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import train_victim
from thieves.efforts import Effort
from train_victim import Augmentation, Model

Name = Literal["knockoff", "knockoff_adaptive", "seeking", "jbda", "jb_self", "jb_topk", "online"]
Reward = Literal["certainty", "diversity", "loss"]
Labels = Literal[
    "soft",
    "top1",
    "confident",
    "balanced",
    "smoothing",
    "s4l",
    "mixmatch",
    "partial_bayes",
    "ddae",
    "ddae_plus",
    "ddae_imagined",
    "inverted",
    "inverted_weights",
    "relabelled",
    "agreeing",
    "genuine",
    "passing",
]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]
JACOBIAN: tuple[Name, ...] = ("jbda", "jb_self", "jb_topk")
SEMI: tuple[Labels, ...] = ("s4l", "mixmatch")
"""They learn from images without answers as well."""
SEVERAL: tuple[Labels, ...] = ("smoothing", "agreeing")
"""They ask about each image several times."""

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "knockoff": (),
    "seeking": (),
    "knockoff_adaptive": ("rewards", "query_batch"),
    "jbda": ("seeds", "reservoir", "rounds_epochs"),
    "jb_self": ("seeds", "reservoir", "rounds_epochs"),
    "jb_topk": ("seeds", "reservoir", "rounds_epochs"),
    "online": ("sees",),
}

# Options that a record leaves out where they change nothing.
_UNUSED: dict[str, Any] = {
    "split": "train",
    "resize": False,
    "optimizer": "sgd",
    "weight_decay": 0.0,
    "augmentation": "none",
    "warm_start": None,
    "validation": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the images of a thief's queries come from."""

    pool: str
    split: str
    resize: bool


@dataclasses.dataclass(frozen=True)
class Attack:
    """All that determines an attacker."""

    name: Name = "knockoff"
    """Random or adaptive Knockoff; half at random and then what a model of the answers is surest of (`seeking`);
    Jacobian-based augmentation; or online training under a white-box defense."""
    pool: str = "font_letters"
    """Whose training images are asked about, a name of `python -m pp_jax.data list`; the Jacobian family takes a few
    test images of the victim's own set instead, and is judged on others."""
    split: str = "train"
    """Which split of the pool."""
    resize: bool = False
    """Scale the pool's images to the size of the victim's."""
    budget: int = 10_000
    """Queries; one image is one query."""
    labels: Labels = "soft"
    """Train on the answers, on their argmax, on the argmax of those alone that are most certain, on averages over
    changed copies of an image (each a query; `agreeing` keeps the most certain averages), on the answers and on images
    of the pool that were not asked about (`s4l`, `mixmatch`), or on what is recovered from the answers by an attacker
    who knows defense and strength, but its own surrogate only (`inverted_weights`: the defender's). Yardsticks for
    defenses that spare some queries: a thief who is told which answers are `genuine`, or has the gate and asks
    first about all that pass (`passing`)."""
    effort: Effort = dataclasses.field(default_factory=Effort)
    """Settings of what such thieves do."""
    model: Model = "lenet"
    """The thief's architecture."""
    epochs: int = 12
    """Passes over the transfer set (an online attacker makes one)."""
    batch_size: int = 64
    """Images a step."""
    optimizer: Optimizer = "sgd"
    """Of the thief."""
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
    warm_start: str | None = None
    """Start from weights trained on the labels of this data set, or from a .safetensors file."""
    validation: float = 0.0
    """Share of the transfer set that is held out, to choose the best epoch by."""
    rewards: tuple[Reward, ...] = ("certainty", "diversity", "loss")
    """Adaptive Knockoff: what is rewarded."""
    query_batch: int = 50
    """Adaptive Knockoff: queries between two changes of mind."""
    seeds: int = 100
    """Jacobian family: images to begin with."""
    reservoir: int = 400
    """Jacobian family: images that are augmented in a round, after the third."""
    rounds_epochs: int = 20
    """Jacobian family: epochs of the substitute in each round."""
    sees: Literal["thief", "proxy", "fixed"] = "thief"
    """Online: whose weights the defense takes for its surrogate's."""

    def settings(self) -> dict[str, Any]:
        """What determines the attacker, as a record has it: options that are not used are left out."""
        chosen = dataclasses.asdict(self)
        del chosen["effort"]
        chosen |= self.effort.settings(self.labels)
        used = _PARAMETERS[self.name]
        for name in {name for names in _PARAMETERS.values() for name in names} - set(used):
            del chosen[name]
        for name, value in _UNUSED.items():
            if chosen[name] == value:
                del chosen[name]
        if self.decay_every >= self.epochs:
            del chosen["decay_every"]
        if self.optimizer != "sgd":
            del chosen["momentum"]
        if self.name in JACOBIAN:
            chosen["pool"] = "seeds"
        return chosen

    def source(self) -> Source | None:
        """The pool; None for those who take test images of the victim's own set."""
        return None if self.name in JACOBIAN else Source(self.pool, self.split, self.resize)

    def recipe(self) -> Any:
        """How the thief is trained."""
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
            augment=train_victim.augment_for(self.augmentation),
        )

    def strategy(self, thief: Any, pool: Any) -> Any:
        """How queries are chosen: an attack of `pp_jax.attacks`."""
        from pp_jax import attacks, training
        from thieves import seeking

        substitute = training.Recipe(self.rounds_epochs, learning_rate=0.1, momentum=0.9)
        options: dict[str, Any] = {"recipe": substitute, "seed_size": self.seeds, "reservoir": self.reservoir}
        makers = {
            "knockoff": attacks.Knockoff,
            "knockoff_adaptive": lambda: self._adaptive(thief, pool),
            "seeking": lambda: seeking.Seeking(thief, self.recipe(), self.budget),
            "jbda": lambda: attacks.jbda(thief, **options),
            "jb_self": lambda: attacks.jb_self(thief, **options),
            "jb_topk": lambda: attacks.jb_topk(thief, **options),
        }
        return makers[self.name]()

    def _adaptive(self, thief: Any, pool: Any) -> Any:
        """The bandit over the pool's classes."""
        from pp_jax import attacks

        rewards = {"certainty": attacks.Certainty, "diversity": attacks.Diversity, "loss": attacks.Loss}
        return attacks.AdaptiveKnockoff(
            hierarchy(pool),
            rewards=tuple(rewards[name]() for name in self.rewards),
            thief=thief if "loss" in self.rewards else None,
            batch_size=self.query_batch,
        )

    def check(self) -> None:
        """Refuse what can be seen to be wrong before long work starts."""
        self.recipe()
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation is {self.validation}: must be at least 0 and below 1")
        if self.labels in SEMI:
            self._check_semi()
        if self.labels in SEVERAL and self.effort.copies > self.budget:
            raise ValueError(f"copies is {self.effort.copies}: must be at most the budget, {self.budget}")
        if self.name == "knockoff_adaptive" and not self.rewards:
            raise ValueError("rewards is empty: must name at least one of certainty, diversity, loss")
        if self.warm_start and self.warm_start.endswith(".safetensors") and not Path(self.warm_start).exists():
            raise ValueError(f"warm_start is {self.warm_start}: there is no such file")

    def _check_semi(self) -> None:
        """Refuse what a thief who learns from images without answers has no use for."""
        if self.name not in ("knockoff", "knockoff_adaptive"):
            raise ValueError(
                f"name is {self.name}: must be knockoff or knockoff_adaptive where labels is {self.labels}"
            )
        for name in ("augmentation", "warm_start", "validation"):
            if (value := getattr(self, name)) != _UNUSED[name]:
                raise ValueError(f"{name} is {value}: must be {_UNUSED[name]} where labels is {self.labels}")


def hierarchy(pool: Any) -> Any:
    """What an adaptive attacker knows of its pool: classes, (N,), or for CIFAR-100 superclasses and classes, (N, 2)."""
    import numpy as np

    from pp_jax.data import labels

    if pool.name != "cifar100":
        return pool.labels
    return np.stack([np.asarray(labels.CIFAR100_COARSE_OF_FINE)[pool.labels], pool.labels], axis=1)
