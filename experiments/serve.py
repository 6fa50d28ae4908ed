"""The demo's victim behind the defended prediction service, from nothing: `make serve`.

    python -m experiments.serve                      # MNIST; about a minute to train the victim, the first time

Trains the victim (or finds it), makes two keys, one of them trusted, fits detector and thresholds, and serves. It
prints a `curl` line that works, the keys, and the addresses of the docs, the metrics and the status page.
"""

import dataclasses
import json
import logging
import sys
from pathlib import Path

import tyro

from experiments import common, victims
from experiments.victims import VictimOptions
from pp_jax._command import command


@dataclasses.dataclass(frozen=True)
class Config:
    """What is served, and where."""

    victim: VictimOptions = dataclasses.field(default_factory=lambda: VictimOptions(epochs=2, decay_every=1))
    detector: str = "p_values"
    """A function of `pp_jax.detection.makers`; empty for none."""
    actions: tuple[str, ...] = ("pass", "Resampled", "block")
    """What each band gets."""
    rates: tuple[float, ...] = (0.01, 0.001)
    """False-alarm rates of the thresholds, per benign account of `queries`."""
    queries: int = 200
    """Queries of a benign account that thresholds are set for."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """Port to listen on."""
    runs: Path = Path("runs")
    """Folder of all results."""
    data_dir: Path | None = None
    """Folder of prepared data; $TFDS_DATA_DIR or TFDS's own by default."""


@command()
def main() -> None:
    """Command line."""
    config = tyro.cli(Config, description=__doc__)
    from pp_jax import data, records
    from pp_jax.service import config as service
    from pp_jax.service import server

    with common.errors():
        victims.victim(config.victim, config.runs, config.data_dir)
        folder = config.runs / "service"
        weights = config.runs / "victims" / f"{records.key({'victim': config.victim.settings()})}.safetensors"
        keys = {name: _key(folder, name, trusted=name == "owner") for name in ("alice", "owner")}
        image = data.load(config.victim.dataset, "test", data_dir=config.data_dir).images[0]
        request = folder / "request.json"
        request.write_text(json.dumps({"instances": [(image / 255).round(4).tolist()]}))
        model = service.Model(weights=config.victim.weights or weights, dataset=config.victim.dataset)
        policy = service.Policy(config.detector, config.actions, config.rates, config.queries)
        chosen = service.Config(
            model, policy, service.Limits(total=10_000), host=config.host, port=config.port, folder=folder,
            data_dir=config.data_dir,
        )  # fmt: skip
        address = f"http://{config.host}:{config.port}"
        curl = f"curl -H 'Authorization: Bearer {keys['alice']}' -d @{request} {address}/v1/models/model:predict"
        lines = [
            "when it says that it is ready, ask:",
            f"  {curl}",
            f"docs     {address}/docs",
            f"metrics  curl -H 'Authorization: Bearer {keys['owner']}' {address}/metrics",
            f"status   {address}/status   (any name, and the trusted key as password: {keys['owner']})",
        ]
        print(*lines, sep="\n", file=sys.stderr, flush=True)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
        server.serve(chosen)


def _key(folder: Path, name: str, *, trusted: bool) -> str:
    """The key of an account of this demonstration: kept in the open beside the service, unlike any real one."""
    from pp_jax.service.keys import Principal, add

    path = folder / f"demo-key-{name}.txt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(add(folder / "keys.toml", Principal(name, trusted)))
    return path.read_text()


if __name__ == "__main__":
    main()
