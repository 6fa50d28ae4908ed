"""How cells of an experiment are computed, kept, found again and shown."""
