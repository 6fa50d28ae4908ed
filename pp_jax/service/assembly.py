"""From options to parts: victim, policy, secret key. All that can be wrong is said here, before it serves."""

import dataclasses
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax import _files, data, models
from pp_jax.defenses.cards import Defender
from pp_jax.defenses.composition import Chain
from pp_jax.detection import makers
from pp_jax.detection.policy import Blocked, Policy, ProofOfWork, Throttled
from pp_jax.evaluation import named
from pp_jax.geometry.posteriors import posterior
from pp_jax.results import checkpoints
from pp_jax.service.config import Config
from pp_jax.service.known import Known
from pp_jax.serving.wire import Model
from pp_jax.training import Recipe
from pp_jax.types import Params

_BUILDERS: dict[str, Callable[..., Any]] = {
    name: getattr(models, name) for name in ("lenet", "mlp", "vgg16_bn", "resnet18", "resnet34", "resnet50", "wrn_40_2")
}


@dataclasses.dataclass(frozen=True, eq=False)
class Victim:
    """What answers before the defense.

    Attributes:
        network: None behind an upstream server.
        params: its parameters.
        model: names, shapes and limits.
    """

    network: Any
    params: Params
    model: Model


@dataclasses.dataclass(frozen=True)
class Nothing:
    """A detector that never suspects anybody."""

    def init(self) -> jax.Array:
        """Return nothing."""
        return jnp.zeros(0)

    def update(
        self, state: jax.Array, image: jax.Array, probs: jax.Array, features: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return nothing, and −∞."""
        del image, probs, features
        return state, jnp.asarray(-jnp.inf, jnp.float32)


jax.tree_util.register_static(Nothing)


def victim(config: Config) -> Victim:
    """The victim of the options.

    Raises:
        ValueError: for neither or both of weights and upstream, or a file that is no victim's.
    """
    chosen = config.model
    if (chosen.weights is None) == (not chosen.upstream):
        raise ValueError("give --model.weights FILE, or --model.upstream URL, and not both")
    if chosen.weights is None:
        if not chosen.classes or len(chosen.image_shape) != 3 or not chosen.upstream_model:
            raise ValueError(
                "an upstream server needs --model.classes, --model.image-shape H W C and --model.upstream-model"
            )
        return Victim(None, None, _model(config, chosen.classes, chosen.image_shape))
    path = _files.expanded(chosen.weights)
    params, told = checkpoints.load(path)
    architecture = chosen.architecture or told.get("model") or told.get("victim", {}).get("model")
    if architecture not in _BUILDERS:
        raise ValueError(
            f"{path} does not say what network it is: give --model.architecture, one of {', '.join(_BUILDERS)}"
        )
    classes, shape = chosen.classes or told.get("num_classes"), chosen.image_shape or told.get("image_shape")
    if (not classes or not shape) and (name := told.get("victim", {}).get("dataset")):
        test = data.load(name, "test", data_dir=config.data_dir)
        classes, shape = classes or test.num_classes, shape or test.image_shape
    if not classes or not shape:
        raise ValueError(f"{path} does not say for what images: give --model.classes and --model.image-shape H W C")
    options = {name: _tuple(told[name]) for name in ("mean", "std", "image_size", "small_images") if name in told}
    network = _BUILDERS[architecture](int(classes), **options)
    like = jax.eval_shape(lambda: network.init(jax.random.key(0), tuple(shape)))
    params, _ = checkpoints.load(path, like=like)
    return Victim(network, params, _model(config, int(classes), tuple(shape)))


def policy(config: Config, served: Victim) -> Policy:
    """The policy of the options, fitted to the victim where it needs that.

    Raises:
        ValueError: for actions, rates or detectors that there are not or that do not fit together.
    """
    chosen, model = config.policy, served.model
    if len(chosen.actions) != len(chosen.rates) + 1:
        raise ValueError(
            f"there are {len(chosen.actions)} actions and {len(chosen.rates)} rates: must be one action more than rates"
        )
    if bool(chosen.rates) != bool(chosen.detector):
        raise ValueError("rates need a detector, and a detector needs rates: give both or neither")
    if served.network is None and chosen.detector not in ("", "label_mmd", "confidence_ks"):
        raise ValueError(
            f"detector {chosen.detector} reads the victim's features, which an upstream server does not give"
        )
    images, labels = None, None
    if config.model.dataset:
        found = data.load(config.model.dataset, "train", data_dir=config.data_dir)
        images, labels = found.images, found.labels
    network = served.network if served.network is not None else _NoNetwork()
    defender = Defender(
        network, served.params, images, labels, Recipe(1), model.classes, model.image_shape, network,
        secret(config, "surrogate"), kept=config.path("networks"),
    )  # fmt: skip
    actions = tuple(_action(text, defender) for text in chosen.actions)
    if not chosen.rates:
        features = network.features
        return Policy(Nothing(), (), actions, features, served.params, audit_only=chosen.audit_only)
    maker = getattr(makers, chosen.detector, None)
    if maker not in makers.MAKERS:
        raise ValueError(
            f"there is no detector {chosen.detector}: must be one of {', '.join(m.__name__ for m in makers.MAKERS)}"
        )
    if images is None:
        raise ValueError("a detector is made from the victim's training images: give --model.dataset")
    known = Known(config.path("thresholds.json"), chosen, images, labels, served.params, defender.seed)
    made = Policy.fitted(
        defender, detector=maker, actions=actions, rates=chosen.rates, queries=chosen.queries,
        accounts=chosen.accounts, audit_only=chosen.audit_only, thresholds=known.read(),
    )  # fmt: skip
    known.write(made.thresholds)
    return made


def look(served: Victim) -> Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]] | None:
    """Posterior and features of one image, (K,) and (F,); None behind an upstream server."""
    network = served.network
    if network is None:
        return None
    return _Look(network)


@dataclasses.dataclass(frozen=True)
class _Look:
    """A hashable look, so that it is compiled once."""

    network: Any

    def __call__(self, params: Params, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        return posterior(self.network, params, image), self.network.features(params, image)


class _NoNetwork:
    """In place of a network that is elsewhere."""

    @staticmethod
    def features(params: Params, image: jax.Array) -> jax.Array:
        """No features; one zero, as programs of size zero cannot be mapped."""
        del params, image
        return jnp.zeros(1)


def secret(config: Config, purpose: str) -> jax.Array:
    """The defender's secret key for a purpose: made once, kept in the folder, the same after every restart."""
    return jax.random.wrap_key_data(jnp.asarray(np.frombuffer(secret_bytes(config, purpose)[:8], np.uint32)))


def secret_bytes(config: Config, purpose: str) -> bytes:
    """32 secret bytes for a purpose; see `secret`."""
    path = config.path("secret")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    text = path.read_text("utf-8").strip()
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError(f"{path} must hold 64 hexadecimal digits: with another secret every response changes")
    return hmac.digest(bytes.fromhex(text), purpose.encode(), hashlib.sha256)


def _action(text: str, defender: Defender) -> Any:
    """An action from its text."""
    name, _, number = text.partition(":")
    try:
        if text in ("pass", "block"):
            return Chain() if text == "pass" else Blocked()
        if name == "throttle":
            return Throttled(float(number))
        if name == "work":
            return ProofOfWork(int(number))
    except ValueError as error:
        raise ValueError(f"the action {text!r} must be throttle:SECONDS or work:BITS") from error
    return named.defense(text).make(defender)


def _model(config: Config, classes: int, shape: tuple[int, ...]) -> Model:
    height, width, channels = shape
    return Model(config.model.name, (height, width, channels), classes, most=config.limits.request)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
