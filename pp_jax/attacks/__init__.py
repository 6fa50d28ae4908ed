"""Attacks: query strategies under one ask/tell contract, and the driver that gives them a budget."""

from pp_jax.attacks.driver import collect
from pp_jax.attacks.knockoff import Knockoff

__all__ = ["Knockoff", "collect"]
