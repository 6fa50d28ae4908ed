"""Figures made from records alone."""

from pp_jax.plots.curves import curves
from pp_jax.plots.heatmap import heatmap
from pp_jax.plots.histograms import histograms
from pp_jax.plots.style import png, save
from pp_jax.plots.tradeoff import tradeoff

__all__ = ["curves", "heatmap", "histograms", "png", "save", "tradeoff"]
