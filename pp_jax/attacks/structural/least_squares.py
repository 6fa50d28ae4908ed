"""Levenberg–Marquardt in float64, for systems of equations that have an exact solution."""

from collections.abc import Callable

import numpy as np

Equations = Callable[[np.ndarray, bool], tuple[np.ndarray, np.ndarray | None, np.ndarray | None]]
"""Residuals r (m,) at parameters (p,); where the flag is set also JᵀJ, (p, p), and Jᵀr, (p,), of their Jacobian J."""


def levenberg_marquardt(
    equations: Equations, start: np.ndarray, *, steps: int, damping: float = 1e-2
) -> tuple[np.ndarray, float]:
    """Minimise ‖r(θ)‖² by damped Gauss–Newton steps.

    (JᵀJ + μ diag JᵀJ) δ = −Jᵀr;  μ falls threefold after a step that helps, and doubles, then quadruples, … after one
    that does not.

    Args:
        equations: residuals and normal equations.
        start: θ, (p,).
        steps: that help or do not, at most.
        damping: the first μ.

    Returns:
        θ and ‖r(θ)‖².
    """
    theta = start
    residual, normal, slope = equations(theta, True)
    loss, growth = float(residual @ residual), 2.0
    for _ in range(steps):
        assert normal is not None
        assert slope is not None
        diagonal = np.maximum(np.diag(normal), 1e-12 * np.diag(normal).max(initial=1e-300))
        try:
            move = np.linalg.solve(normal + np.diag(damping * diagonal), -slope)
        except np.linalg.LinAlgError:
            damping, growth = damping * growth, 2 * growth
            continue
        trial = theta + move
        residual, _, _ = equations(trial, False)
        found = float(residual @ residual)
        if not found < loss:
            if damping > 1e12 or np.linalg.norm(move) <= 1e-15 * np.linalg.norm(theta):
                break
            damping, growth = damping * growth, 2 * growth
            continue
        stalled = loss - found <= 1e-13 * loss
        theta, loss = trial, found
        if stalled or loss == 0:
            break
        damping, growth = max(damping / 3, 1e-15), 2.0
        residual, normal, slope = equations(theta, True)
    return theta, loss
