"""Who defends: defenses by name, their strengths, and the networks and images that they need."""
