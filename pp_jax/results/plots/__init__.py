"""Figures made from records alone."""

from pp_jax.results.plots.curves import curves
from pp_jax.results.plots.heatmap import heatmap
from pp_jax.results.plots.histograms import histograms
from pp_jax.results.plots.style import png, save
from pp_jax.results.plots.tradeoff import tradeoff
from pp_jax.results.plots.worst_case import Gap, worst_case

__all__ = ["Gap", "curves", "heatmap", "histograms", "png", "save", "tradeoff", "worst_case"]
