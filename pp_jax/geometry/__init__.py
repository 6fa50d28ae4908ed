"""Geometry of K-vectors: the simplex, distances with their balls, posteriors of logits."""
