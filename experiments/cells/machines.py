"""On what cells are computed: this machine, one or many at a time, or a cluster."""

import dataclasses
from typing import Literal

Way = Literal["auto", "vmap", "chunk", "loop"]


@dataclasses.dataclass(frozen=True)
class Machines:
    """Where cells are computed; results do not hang on it but for rounding."""

    way: Way = "auto"
    """Random Knockoff's cells as one program, some at a time, or one after another; auto asks the hardware."""
    memory_gib: float | None = None
    """What cells that are computed at once may take of the device; most of what is free by default."""
    ray: str | None = None
    """A cell per task on a Ray cluster: its address, `auto` for the one this machine belongs to, `local` for one of
    this machine alone. It must share the folders of results and data (`pip install 'pp-jax[ray]'`)."""
    cpus: float = 1.0
    """Ray: processors that a cell reserves."""
    gpus: float = 0.0
    """Ray: GPUs that a cell reserves."""
    retries: int = 3
    """Ray: how often a cell is begun again whose worker died."""

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("cpus", "gpus", "retries"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: must be at least 0")
        if self.memory_gib is not None and self.memory_gib <= 0:
            raise ValueError(f"memory_gib is {self.memory_gib}: must be above 0")

    def chosen_way(self) -> Literal["vmap", "chunk", "loop"] | None:
        """The user's choice, if there is one."""
        return None if self.way == "auto" else self.way

    def memory_bytes(self) -> int | None:
        """The user's limit, if there is one."""
        return None if self.memory_gib is None else int(self.memory_gib * 2**30)

    def batches(self) -> bool:
        """Whether cells are computed at once."""
        import jax

        return jax.default_backend() != "cpu" if self.way == "auto" else self.way != "loop"
