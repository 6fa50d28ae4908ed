"""The service on a cluster: replicas under Ray Serve, which starts, watches and scales them, with one ledger for all.

    serve run serve.yaml      # or `serve deploy serve.yaml`, to a cluster that runs

    applications:
      - name: pp_jax
        route_prefix: /
        import_path: pp_jax.service.ray_serve:build
        args: {config: /shared/service.toml}
        deployments: [{name: Defended, num_replicas: 4}]

The service's folder must be the same for all replicas, as it holds the keys and the secret that makes their responses
equal; on more than one machine, the store must be in Redis.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from pp_jax.service import assembly
from pp_jax.service import config as options
from pp_jax.service.config import Config

if TYPE_CHECKING:
    from ray.serve import Application

# Requests that one replica works on: enough to fill its batches, where Ray Serve's own 5 would not.
_AT_ONCE = 512


def build(args: dict[str, Any]) -> "Application":
    """The Ray Serve application of a configuration file; Ray Serve calls it.

    Args:
        args: `{"config": path}`; the paths in that file must be absolute. Host, port and connections are Ray Serve's.

    Raises:
        ValueError: for other arguments, or a configuration that cannot be served.
        ImportError: without Ray Serve.
    """
    config = _config(args)
    try:
        from ray import serve
    except ImportError as error:
        raise ImportError(f"Ray Serve cannot be imported ({error}): pip install 'pp-jax[serve,ray]'") from error

    def application() -> FastAPI:
        from pp_jax.service import app, server

        return app.application(server.assemble(config))

    class Defended:
        """One replica."""

        app: FastAPI

        async def check_health(self) -> None:
            """Wait until the model is compiled; a replica gets no requests before."""
            service = self.app.state.service
            while not service.ready:
                if service.failure:
                    raise RuntimeError(service.failure)
                await asyncio.sleep(0.05)

    ingress = serve.ingress(application)(Defended)
    return serve.deployment(name="Defended", max_ongoing_requests=_AT_ONCE)(ingress).bind()


def _config(args: dict[str, Any]) -> Config:
    """The configuration, with one secret for all replicas."""
    if set(args) != {"config"}:
        raise ValueError(f"args has {', '.join(sorted(args)) or 'nothing'}: must be config alone, the path of a file")
    config = options.load(Path(args["config"]))
    options.check(config)
    paths = {
        "folder": config.folder, "keys": config.keys, "data_dir": config.data_dir,
        "model.weights": config.model.weights,
    }  # fmt: skip
    if "://" not in config.store:
        paths["store"] = Path(config.store) if config.store else None
    for name, path in paths.items():
        if path is not None and not path.expanduser().is_absolute():
            raise ValueError(f"{name} is {path}: must be an absolute path, as every replica has a folder of its own")
    # Made here, so that replicas that start together do not each make one.
    assembly.secret(config, "defense")
    return config
