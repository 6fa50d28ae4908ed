"""Every defense of the experiments by name, from a configuration to the library's object."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from owners.networks import Beside, Needs

Name = Literal[
    "none",
    "mad",
    "mad_argmax",
    "mad_interpolated",
    "mad_exact",
    "min_inner",
    "least_likely",
    "next_class",
    "constant_class",
    "random_class",
    "second_likeliest",
    "reverse_sigmoid",
    "random_noise",
    "top_k",
    "rounding",
    "top_1",
    "grad2",
    "grad2_argmax",
    "modelguard_w",
    "dcp",
    "bdpl",
    "high_confidence",
    "misinformation",
    "edm",
    "modelguard_s",
    "keyed_swap",
    "always_swapped",
    "merged",
    "learned",
]

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "mad": ("epsilon", "gram", "distance", "objective", "ending"),
    "mad_argmax": ("epsilon", "gram", "distance", "objective"),
    "none": (),
    "reverse_sigmoid": ("beta", "gamma"),
    "random_noise": ("radius",),
    "top_k": ("k",),
    "rounding": ("decimals",),
    "top_1": (),
    "dcp": ("beta", "gamma"),
    "bdpl": ("zone", "privacy"),
    "high_confidence": ("cutoff",),
    "misinformation": ("tau", "network_epochs"),
    "edm": ("outliers", "network_epochs", "members"),
    "modelguard_s": ("epsilon", "capacity"),
    "keyed_swap": ("share", "probability"),
    "always_swapped": ("share",),
    "merged": ("share",),
    "learned": ("epsilon", "outliers"),
}

_ALONE = Beside()


@dataclasses.dataclass(frozen=True)
class Defense:
    """A defense by name; only its own parameters count."""

    name: Name = "mad"
    """Which defense; those from `mad` to `second_likeliest`, GRAD², ModelGuard and `learned` move the posterior by
    epsilon."""
    epsilon: float = 0.99
    """Budget of those in the unit of the distance; 0 to 2 in L1."""
    gram: Literal["last_layer", "all_layers", "identity"] = "last_layer"
    """MAD: over which of the surrogate's parameters the gradient is taken; identity is the paper's "G = I"."""
    distance: Literal["l1", "l2", "kl"] = "l1"
    """MAD: what the budget is measured in."""
    objective: Literal["angular", "inner"] = "angular"
    """MAD: the angle between gradients, or the unnormalised ‖Gᵀ(ỹ − y)‖²."""
    ending: Literal["line_search", "projection"] = "line_search"
    """MAD: how the oracle's choice is brought into the ball."""
    beta: float = 1.0
    """Reverse sigmoid: magnitude, 0 to 1."""
    gamma: float = 0.2
    """Reverse sigmoid: slope (.2 for MNIST)."""
    radius: float = 50.0
    """Random noise: L1 radius in logit space."""
    k: int = 3
    """Top-k: classes answered."""
    decimals: int = 1
    """Rounding: decimals kept."""
    zone: float = 0.5
    """BDPL: margin of the top class below which labels are exchanged at random."""
    privacy: float = 0.1
    """BDPL: ε of its randomised response."""
    cutoff: float = 0.1
    """High confidence: least entry that is answered."""
    tau: float = 0.7
    """Adaptive misinformation: confidence below which the answer misinforms (.7 for CIFAR-10)."""
    outliers: str = "omniglot_28"
    """EDM: data set that its models are taught to disagree on; learned poison: what it is trained to poison. Never the
    thief's pool."""
    network_epochs: int = 2
    """Adaptive misinformation and EDM: passes over the victim's data for their own networks."""
    members: int = 5
    """EDM: models."""
    share: float = 0.04
    """Keyed swap: level of significance below which a query counts as strange."""
    probability: float = 0.5
    """Keyed swap: how often a strange query is answered with the classes of a pair exchanged."""
    capacity: int = 1024
    """ModelGuard-S: answers remembered for each class."""

    def settings(self) -> dict[str, Any]:
        """Name and parameters that matter, as a record has them: choices that are the paper's are left out."""
        chosen = {name: getattr(self, name) for name in _PARAMETERS.get(self.name, ("epsilon",))}
        published = {"gram": "last_layer", "distance": "l1", "objective": "angular", "ending": "line_search"}
        return {"name": self.name, **{name: v for name, v in chosen.items() if published.get(name) != v}}

    def needs(self) -> Needs | None:
        """The networks of its own, if it has any."""
        if self.name in ("keyed_swap", "always_swapped", "merged"):
            return Needs("novelty", epochs=0)
        if self.name == "learned":
            return Needs("unrolled", epochs=0, outliers=self.outliers)
        if self.name == "misinformation":
            return Needs("misinformation", self.network_epochs)
        return Needs("edm", self.network_epochs, self.outliers, self.members) if self.name == "edm" else None

    def build(self, network: Any, surrogate: Any, beside: Beside = _ALONE) -> Any:
        """The defense itself.

        Args:
            network: architecture of the stand-in for the thief.
            surrogate: its parameters.
            beside: number of classes and networks of the defense's own; where its parameters are to be checked and
                nothing answered, the default will do.
        """
        import pp_jax
        from owners import candidates
        from pp_jax import defenses, gram, oracle, solvers

        def grad2(*, keep_argmax: bool) -> Any:
            """The published headline direction."""
            ones = None if surrogate is None else defenses.grad2.all_ones(surrogate)
            return defenses.GRAD2(network, surrogate, self.epsilon, ones, keep_argmax)

        def towards(target: Any) -> Any:
            """A rule that asks nothing of a surrogate."""
            return pp_jax.MAD(network, surrogate, self.epsilon, solver=solvers.LineSearch(target), gram=gram.identity)

        vertex = oracle.declare(keeps_argmax=False, random=False, vertex=True)

        makers: dict[str, Callable[[], Any]] = {
            "none": lambda: pp_jax.chain(),
            "mad": lambda: self._mad(network, surrogate, oracle.extreme),
            "mad_argmax": lambda: self._mad(network, surrogate, oracle.argmax_preserving),
            "mad_interpolated": lambda: pp_jax.MAD(
                network, surrogate, self.epsilon, solver=solvers.LineSearch(interpolate_first=True)
            ),
            "mad_exact": lambda: pp_jax.MAD(network, surrogate, self.epsilon, solver=solvers.MaxAngle()),
            "min_inner": lambda: pp_jax.MAD(network, surrogate, self.epsilon, solver=solvers.MinInner()),
            "least_likely": lambda: towards(oracle.least_likely),
            "next_class": lambda: towards(vertex(next_class)),
            "constant_class": lambda: towards(vertex(constant_class)),
            "random_class": lambda: towards(oracle.random_vertex),
            "second_likeliest": lambda: towards(vertex(second_likeliest)),
            "reverse_sigmoid": lambda: pp_jax.ReverseSigmoid(self.beta, self.gamma),
            "random_noise": lambda: pp_jax.RandomNoise(self.radius),
            "top_k": lambda: pp_jax.TopK(self.k),
            "rounding": lambda: pp_jax.Rounding(self.decimals),
            "top_1": pp_jax.Top1,
            "grad2": lambda: grad2(keep_argmax=False),
            "grad2_argmax": lambda: grad2(keep_argmax=True),
            "modelguard_w": lambda: defenses.ModelGuardW(self.epsilon),
            "dcp": lambda: defenses.DCP(self.beta, self.gamma),
            "bdpl": lambda: defenses.BDPL(self.zone, self.privacy),
            "high_confidence": lambda: defenses.HighConfidence(self.cutoff),
            "misinformation": lambda: defenses.AdaptiveMisinformation(beside.network, beside.params, self.tau),
            "edm": lambda: defenses.EDM(beside.network, beside.params),
            "keyed_swap": lambda: defenses.KeyedSwap(beside.novelty, beside.partners(), self.share, self.probability),
            "always_swapped": lambda: defenses.KeyedSwap(beside.novelty, beside.partners(), self.share, 1.0),
            "merged": lambda: candidates.Merged(beside.novelty, beside.partners(), self.share),
            "learned": lambda: candidates.LearnedPoison(beside.network, beside.params, self.epsilon),
            "modelguard_s": lambda: defenses.ModelGuardS(self.epsilon, beside.classes, self.capacity),
        }
        return makers[self.name]()

    def _mad(self, network: Any, surrogate: Any, target: Any) -> Any:
        """MAD with its exchangeable parts."""
        import pp_jax
        from pp_jax import distance, gram, objective, solvers

        ending = {"line_search": solvers.LineSearch, "projection": solvers.Projection}[self.ending]
        distances: dict[str, Any] = {"l1": distance.L1, "l2": distance.L2, "kl": distance.KL}
        grams: dict[str, Any] = {
            "last_layer": gram.last_layer,
            "all_layers": gram.all_layers,
            "identity": gram.identity,
        }
        return pp_jax.MAD(
            network,
            surrogate,
            self.epsilon,
            solver=ending(target, getattr(objective, self.objective)),
            distance=distances[self.distance](),
            gram=grams[self.gram],
        )


def next_class(probs: Any, gram: Any, *, objective: Any, key: Any) -> Any:
    """The class after the top class: one fixed permutation of the classes."""
    import jax
    import jax.numpy as jnp

    del gram, objective, key
    classes = probs.shape[-1]
    return jax.nn.one_hot((jnp.argmax(probs) + 1) % classes, classes, dtype=probs.dtype)


def constant_class(probs: Any, gram: Any, *, objective: Any, key: Any) -> Any:
    """Class 0, whatever was asked; the next one for images of class 0 itself."""
    import jax
    import jax.numpy as jnp

    del gram, objective, key
    return jax.nn.one_hot(jnp.where(jnp.argmax(probs) == 0, 1, 0), probs.shape[-1], dtype=probs.dtype)


def second_likeliest(probs: Any, gram: Any, *, objective: Any, key: Any) -> Any:
    """The runner-up."""
    import jax

    del gram, objective, key
    _, order = jax.lax.top_k(probs, 2)
    return jax.nn.one_hot(order[1], probs.shape[-1], dtype=probs.dtype)
