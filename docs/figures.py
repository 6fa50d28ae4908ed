"""Draw the figures of docs/theory.md: python docs/figures.py (seconds on a CPU; no randomness)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from pp_jax.gram import LastLayer
from pp_jax.solvers import exact, linear_max_l1, min_inner

FOLDER = Path(__file__).parent / "figures"
CORNERS = np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])
# A colour-blind safe palette (Okabe and Ito).
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"


def deviation(z, y, p):
    """H seen from p, for rows z."""
    u, a = z - p, y - p
    return 2 - 2 * (u @ a) / np.maximum(np.linalg.norm(u, axis=-1) * np.linalg.norm(a), 1e-12)


def heuristic(y, p, epsilon):
    """The published rule: the one-hot with the largest H, then the line search."""
    best = np.eye(3)[deviation(np.eye(3), y, p).argmax()]
    return y + (best - y) * min(1, epsilon / np.abs(best - y).sum())


def ball(y, epsilon):
    """The corners of simplex ∩ L1 ball, in order, as linear maxima in all directions."""
    turns = jnp.linspace(0, 2 * jnp.pi, 721)
    plane = jnp.array([[1, -1, 0], [1, 1, -2]]) / jnp.sqrt(jnp.array([[2.0], [6.0]]))
    directions = jnp.cos(turns)[:, None] * plane[0][None] + jnp.sin(turns)[:, None] * plane[1][None]
    return np.asarray(jax.vmap(lambda c: linear_max_l1(jnp.asarray(y, jnp.float32), c, epsilon))(directions))


def draw_simplex(axis, y, p, epsilon, title):
    """Level lines of H, the feasible set, and three answers."""
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 300), np.linspace(0, 0.9, 270)), axis=-1)
    c = grid[..., 1] / CORNERS[2, 1]
    b = grid[..., 0] - c / 2
    z = np.stack([1 - b - c, b, c], axis=-1)
    values = np.where((z >= 0).all(axis=-1), deviation(z, y, p), np.nan)
    axis.contour(grid[..., 0], grid[..., 1], values, np.arange(0.25, 4, 0.25), colors="0.6", linewidths=0.6)
    axis.plot(*(np.vstack([np.eye(3), np.eye(3)[:1]]) @ CORNERS).T, color="k", linewidth=1)
    axis.fill(*(ball(y, epsilon) @ CORNERS).T, color=BLUE, alpha=0.15, label="feasible set")
    inputs = jnp.asarray(y, jnp.float32), LastLayer(jnp.asarray(p, jnp.float32))
    answers = {
        "published heuristic": (heuristic(y, p, epsilon), "^", ORANGE),
        "exact": (np.asarray(exact(*inputs, epsilon=epsilon).answer), "o", RED),
        "min_inner": (np.asarray(min_inner(*inputs, epsilon=epsilon)), "s", GREEN),
    }
    axis.plot(*(y @ CORNERS), "k*", markersize=11, label="y", linestyle="none")
    axis.plot(*(p @ CORNERS), "kx", markersize=8, label="p", linestyle="none")
    for name, (point, marker, colour) in answers.items():
        label = f"{name}: H = {deviation(point, y, p):.2f}"
        axis.plot(
            *(point @ CORNERS), marker, color=colour, label=label, linestyle="none", fillstyle="none", mew=1.8, ms=9
        )
    axis.set(title=title, aspect="equal")
    axis.axis("off")
    axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False)


def figure_simplex():
    """The three regimes, from a far y to one whose ball holds p."""
    cases = [
        ([0.85, 0.1, 0.05], [0.3, 0.4, 0.3], 0.5, "quasi-convex: a corner is optimal"),
        ([0.6, 0.22, 0.18], [0.36, 0.31, 0.33], 0.475, "convex: some feasible z lies behind p"),
        ([0.45, 0.25, 0.3], [0.3, 0.4, 0.3], 0.5, "p inside the ball: H = 4"),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.6))
    for axis, (y, p, epsilon, title) in zip(axes, cases, strict=True):
        draw_simplex(axis, np.array(y), np.array(p), epsilon, title)
    figure.tight_layout()
    figure.savefig(FOLDER / "simplex.png", dpi=90)
    plt.close(figure)


def figure_budget():
    """H against the budget for a peaked and a diffuse posterior of ten classes."""
    p = np.linspace(0.07, 0.13, 10)
    p /= p.sum()
    peaked = np.full(10, 0.005)
    peaked[3] = 1 - peaked.sum() + 0.005
    diffuse = np.array([4.0, 3, 2.5, 2, 1.5, 1, 0.8, 0.5, 0.3, 0.1])
    budgets = np.linspace(0.02, 1.9, 48).astype(np.float32)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for axis, y, title in ((axes[0], peaked, "peaked y"), (axes[1], diffuse / diffuse.sum(), "diffuse y")):
        inputs = jnp.asarray(y, jnp.float32), LastLayer(jnp.asarray(p, jnp.float32))
        solve = jax.jit(jax.vmap(lambda e, i=inputs: exact(*i, epsilon=e)))
        inner = jax.jit(jax.vmap(lambda e, i=inputs: min_inner(*i, epsilon=e)))
        vertices = np.eye(10)
        best = vertices[deviation(vertices, y, p).argmax()]
        share = np.minimum(1, budgets / np.abs(best - y).sum())[:, None]
        axis.plot(budgets, np.asarray(solve(budgets).value), color=RED, label="exact")
        axis.plot(budgets, deviation(y + share * (best - y), y, p), "--", color=ORANGE, label="published heuristic")
        axis.plot(budgets, deviation(np.asarray(inner(budgets)), y, p), ":", color=GREEN, label="min_inner")
        axis.set(title=title, xlabel="L1 budget ε")
    axes[0].set_ylabel("angular deviation H")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(FOLDER / "budget.png", dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    figure_simplex()
    figure_budget()
    print(f"wrote {FOLDER}")
