"""Where runs are computed: in this process, one or many at a time, or on a Ray cluster."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax

Batching = Literal["auto", "vmap", "chunk", "loop"]


@dataclasses.dataclass(frozen=True)
class Machines:
    """Where runs are computed; results do not depend on it, up to floating-point rounding.

    Attributes:
        batching: all attackers that can be trained together as one program, some at a time, or one after another; auto
            asks the hardware.
        memory_gib: what runs that are computed at once may take of the device; most of what is free by default.
        ray: a run per task on a Ray cluster: its address, `auto` for the one that this machine belongs to, `local` for
            one of this machine alone. It must share the folders of results and data (`pip install 'pp-jax[ray]'`).
        cpus: Ray: processors that a run reserves.
        gpus: Ray: GPUs that a run reserves.
        retries: Ray: how often a run is begun again whose worker died.

    Raises:
        ValueError: for a number out of range, or a batching that does not exist.
    """

    batching: Batching = "auto"
    memory_gib: float | None = None
    ray: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 3

    def __post_init__(self) -> None:
        """Check every number."""
        if self.batching not in get_args(Batching):
            raise ValueError(f"batching is {self.batching!r}: must be one of {', '.join(get_args(Batching))}")
        for name in ("cpus", "gpus", "retries"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: must be at least 0")
        if self.memory_gib is not None and self.memory_gib <= 0:
            raise ValueError(f"memory_gib is {self.memory_gib}: must be above 0")

    def chosen(self) -> Literal["vmap", "chunk", "loop"] | None:
        """The user's choice, if there is one."""
        return None if self.batching == "auto" else self.batching

    def memory_bytes(self) -> int | None:
        """The user's limit, if there is one."""
        return None if self.memory_gib is None else int(self.memory_gib * 2**30)

    def batches(self) -> bool:
        """Whether runs are computed at once."""
        return jax.default_backend() != "cpu" if self.batching == "auto" else self.batching != "loop"
