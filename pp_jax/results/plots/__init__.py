"""Figures made from records alone."""

from pp_jax.results.plots.curves import curves
from pp_jax.results.plots.heatmap import heatmap
from pp_jax.results.plots.histograms import histograms
from pp_jax.results.plots.style import png, save
from pp_jax.results.plots.tradeoff import tradeoff

__all__ = ["curves", "heatmap", "histograms", "png", "save", "tradeoff"]
