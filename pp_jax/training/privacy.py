"""DP-SGD (Abadi et al., "Deep learning with differential privacy", CCS 2016): a victim that hides its training data."""

import dataclasses

import jax
import optax


@dataclasses.dataclass(frozen=True)
class Privacy:
    """Clip every example's gradient and add Gaussian noise to their sum.

    g = (1/B) (Σ_b g_b · min(1, C/‖g_b‖₂) + σ C ξ),   ξ ~ N(0, I)

    Clipping and noise are `optax.contrib.differentially_private_aggregate`, the accounting is the package
    `dp-accounting`; networks that normalise over the batch have no gradient of a single example and are refused.

    Attributes:
        clip: C > 0, largest L2 norm of one example's gradient.
        noise_multiplier: σ ≥ 0; 0 clips without privacy.
        seed: of the noise.

    Raises:
        ValueError: for a number out of range.
    """

    clip: float = 1.0
    noise_multiplier: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check both numbers."""
        if not 0 < self.clip < float("inf"):
            raise ValueError(f"clip must be above 0 and finite, not {self.clip}")
        if not 0 <= self.noise_multiplier < float("inf"):
            raise ValueError(f"noise_multiplier must be at least 0 and finite, not {self.noise_multiplier}")

    def aggregate(self) -> optax.GradientTransformation:
        """The optax transformation from per-example gradients, (B, …), to their noisy mean."""
        return optax.contrib.differentially_private_aggregate(
            self.clip, self.noise_multiplier, jax.random.key(self.seed)
        )

    def epsilon(self, *, examples: int, batch_size: int, epochs: int, delta: float = 1e-5) -> float:
        """ε of (ε, δ)-differential privacy after training; infinite without noise.

        Accounted by Rényi differential privacy as if every step drew each example with probability B/N; training goes
        through shuffled batches instead, the customary approximation.

        Args:
            examples: N, the training images.
            batch_size: B, of a step.
            epochs: passes over them.
            delta: δ ∈ (0, 1).

        Raises:
            ValueError: for δ out of range.
            ImportError: without the package `dp-accounting` (`pip install 'pp-jax[dp]'`).
        """
        if not 0 < delta < 1:
            raise ValueError(f"delta must be above 0 and below 1, not {delta}")
        if self.noise_multiplier == 0:
            return float("inf")
        import dp_accounting
        from dp_accounting import rdp

        step = dp_accounting.PoissonSampledDpEvent(
            min(1.0, batch_size / examples), dp_accounting.GaussianDpEvent(self.noise_multiplier)
        )
        accountant = rdp.RdpAccountant().compose(step, max(1, examples // batch_size) * epochs)
        return float(accountant.get_epsilon(delta))
