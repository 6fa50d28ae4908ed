"""The service's options: one TOML file, every one of them also on the command line."""

import dataclasses
import string
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

from pp_jax import _files

_NAME = frozenset(string.ascii_letters + string.digits + "-_")


@dataclasses.dataclass(frozen=True)
class Model:
    """What is served: a victim of ours, or a server that is there already."""

    weights: Path | None = None
    """A victim's .safetensors file, as the experiments or `python -m pp_jax.models import-torch` write it."""
    upstream: str = ""
    """Address of an Open Inference Protocol v2 server, in place of weights: http://host:port"""
    upstream_model: str = ""
    """The model's name there."""
    upstream_input: str = "image"
    """The input tensor's name there."""
    upstream_output: str = "posterior"
    """The output tensor's name there: posteriors, FP32."""
    upstream_datatype: str = "FP32"
    """The input's datatype there: FP32 with pixels in [0, 1], or UINT8; clients may send either."""
    upstream_channels_first: bool = False
    """Whether its images are (C, H, W), as those of PyTorch."""
    upstream_timeout_s: float = 10.0
    """Seconds that it may take."""
    architecture: str = ""
    """Of the weights: lenet, vgg16_bn, …; as the file says by default."""
    classes: int = 0
    """K; as the file says by default. Needed with upstream."""
    image_shape: tuple[int, ...] = ()
    """(H, W, C); as the file says by default. Needed with upstream."""
    name: str = "model"
    """The model's name in addresses."""
    dataset: str = ""
    """A prepared set whose training images a detector, its thresholds and fitted defenses are made from."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """What is done about whom."""

    detector: str = ""
    """A function of `pp_jax.detection.makers`, such as p_values; none by default."""
    actions: tuple[str, ...] = ("pass",)
    """One per band, the mildest first: pass, block, throttle:SECONDS, work:BITS, or a defense as in
    "MAD(epsilon=0.5)" or "mine.py:Mine"; one more than rates."""
    rates: tuple[float, ...] = ()
    """False-alarm rate of each threshold, per benign account of so many queries, falling."""
    queries: int = 1000
    """Queries of a benign account that thresholds are set for."""
    accounts: int = 1000
    """Benign accounts that thresholds are set on."""
    audit_only: bool = False
    """Answer truly whatever the score, and write down what would have been done."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Images that are answered, at most; 0 is no limit."""

    total: int = 0
    """To one account, in all; a key may have a budget of its own."""
    rate: int = 0
    """To one account, in a window; a key may have a rate of its own."""
    everybody: int = 0
    """To all accounts together, in all."""
    everybody_rate: int = 0
    """To all together, in a window."""
    window_s: int = 3600
    """Length of a window, in seconds."""
    request: int = 1024
    """In one request."""
    waiting: int = 8192
    """That wait for their batch; more are refused with status 503."""
    body_mib: int = 64
    """Mebibytes of one request, at most, whatever images it holds."""
    accounts: int = 10_000
    """Accounts whose memories are in this process; those of the others wait in the store."""


@dataclasses.dataclass(frozen=True)
class Batches:
    """Dynamic batching."""

    sizes: tuple[int, ...] = (16, 64, 256)
    """Sizes that are compiled, each a multiple of the first."""
    wait_ms: float = 0.0
    """Milliseconds that the first image of a batch waits for others, at most."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The defended prediction service."""

    model: Model = dataclasses.field(default_factory=Model)
    policy: Policy = dataclasses.field(default_factory=Policy)
    limits: Limits = dataclasses.field(default_factory=Limits)
    batches: Batches = dataclasses.field(default_factory=Batches)
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """Port to listen on."""
    folder: Path = Path("runs/service")
    """Where the keys, the store, the secret key and the logs are."""
    keys: Path | None = None
    """The keys file; keys.toml in the folder by default."""
    store: str = ""
    """The ledger: a file, or redis://host:port/number; ledger.sqlite in the folder by default."""
    audit: bool = False
    """Keep every clean posterior in audit.jsonl, for the defender."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""
    header_s: float = 10.0
    """Seconds that a client may take for its headers."""
    body_s: float = 30.0
    """Seconds that a client may take for its body."""
    connections: int = 4096
    """Connections at once, at most."""

    def path(self, name: str) -> Path:
        """A file in the folder."""
        return _files.expanded(self.folder) / name


def load(path: Path) -> Config:
    """The options of a file; what it leaves out is as above.

    Raises:
        ValueError: for a file that cannot be read, an option that there is not, or a value of another type.
    """
    try:
        content = tomllib.loads(_files.expanded(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"the configuration {path} cannot be read: {error}") from error
    return _section(Config, content, path, "")


def check(config: Config) -> None:
    """Refuse values that cannot be served.

    Raises:
        ValueError: for the first of them: its name, what it is, and what it must be.
    """
    model, policy, limits, batches = config.model, config.policy, config.limits, config.batches
    if not 0 <= config.port <= 65535:
        raise ValueError(f"port is {config.port}: must be from 0 (any) to 65535")
    if not model.name or set(model.name) - _NAME:
        raise ValueError(f"model.name is {model.name!r}: must be letters, digits, - and _, as it is part of addresses")
    if model.upstream and not model.upstream.startswith(("http://", "https://")):
        raise ValueError(f"model.upstream is {model.upstream!r}: must be http://host:port")
    lowest: dict[str, tuple[float, float]] = {
        "policy.queries": (policy.queries, 1),
        "policy.accounts": (policy.accounts, 1),
        "limits.total": (limits.total, 0),
        "limits.rate": (limits.rate, 0),
        "limits.everybody": (limits.everybody, 0),
        "limits.everybody_rate": (limits.everybody_rate, 0),
        "limits.window_s": (limits.window_s, 1),
        "limits.request": (limits.request, 1),
        "limits.waiting": (limits.waiting, limits.request),
        "limits.body_mib": (limits.body_mib, 1),
        "limits.accounts": (limits.accounts, 1),
        "batches.wait_ms": (batches.wait_ms, 0),
        "model.upstream_timeout_s": (model.upstream_timeout_s, 0.001),
        "header_s": (config.header_s, 0.001),
        "body_s": (config.body_s, 0.001),
        "connections": (config.connections, 1),
    }
    for name, (value, low) in lowest.items():
        if not value >= low:
            because = ", the images of one request" if name == "limits.waiting" else ""
            raise ValueError(f"{name} is {value:g}: must be at least {low:g}{because}")


def _section(kind: type, content: dict[str, Any], path: Path, prefix: str) -> Any:
    """A dataclass from a table."""
    hints, chosen = typing.get_type_hints(kind), {}
    for name, value in content.items():
        where = f"{prefix}{name}"
        if name not in hints:
            raise ValueError(f"{path}: there is no option {where}: must be one of {', '.join(sorted(hints))}")
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise ValueError(f"{path}: {where} must be a table, [{where}]")
            chosen[name] = _section(typing.cast(type, hint), value, path, f"{where}.")
        else:
            chosen[name] = _value(hint, value, path, where)
    return kind(**chosen)


def _value(hint: Any, value: Any, path: Path, where: str) -> Any:
    """A value of the type that an option has."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{path}: {where} must be a list, not {value!r}")
        return tuple(_value(typing.get_args(hint)[0], item, path, where) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if type(value) is not hint:
        raise ValueError(f"{path}: {where} must be {getattr(hint, '__name__', hint)}, not {value!r}")
    return value
