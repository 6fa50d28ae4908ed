"""What thieves spend who do more with the answers than learn from them."""

import dataclasses
from typing import Any

_USED: dict[str, tuple[str, ...]] = {
    "confident": ("confident_share",),
    "smoothing": ("copies",),
    "agreeing": ("copies", "agreeing_share"),
    "s4l": ("s4l_weight",),
    "mixmatch": ("mixmatch_weight", "mixmatch_alpha"),
    "ddae": ("shadows", "shadow_queries"),
    "ddae_plus": ("pairs", "pair_epochs"),
    "ddae_imagined": ("pairs", "pair_epochs"),
    "relabelled": ("relabellings",),
}
# A recovery network learns from two posteriors at least.
_LEAST = {"copies": 1, "shadows": 1, "shadow_queries": 2, "pairs": 2, "pair_epochs": 1, "relabellings": 1}


@dataclasses.dataclass(frozen=True)
class Effort:
    """Settings of single thieves; a record has those of its own."""

    confident_share: float = 0.5
    """Confident thief: which share of its answers it trusts."""
    copies: int = 3
    """Smoothing and agreeing thieves: changed copies of an image, each a query."""
    agreeing_share: float = 0.3
    """Agreeing thief: which share of its images it keeps; three coins agree by chance for a quarter."""
    s4l_weight: float = 0.3
    """S4L: what images without answers teach, beside the answers."""
    mixmatch_weight: float = 1.0
    """MixMatch: the same."""
    mixmatch_alpha: float = 0.0
    """MixMatch: how images are mixed. By default not at all: in a few hundred steps a thief learns less from mixtures
    than from images (MNIST ← notMNIST)."""
    shadows: int = 4
    """D-DAE: shadow models, a fifth of what is published: seconds in place of minutes."""
    shadow_queries: int = 500
    """D-DAE: queries that each of them answers."""
    pairs: int = 20_000
    """D-DAE+ and D-DAE on imagined posteriors: pairs that the recovery network learns from, a fifth as well."""
    pair_epochs: int = 40
    """D-DAE+ and D-DAE on imagined posteriors: passes over them, a fifth as well."""
    relabellings: int = 2
    """Relabelling thief: models that it trains before the one that it keeps."""

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("confident_share", "agreeing_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: must be above 0 and at most 1")
        for name in ("s4l_weight", "mixmatch_weight", "mixmatch_alpha"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}: must be at least 0 and finite")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: must be at least {least}")

    def settings(self, labels: str) -> dict[str, Any]:
        """What determines a thief with such labels, as its record has it."""
        return {name: getattr(self, name) for name in _USED.get(labels, ())}
