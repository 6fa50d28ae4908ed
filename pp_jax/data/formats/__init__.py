"""Readers of the formats in which image sets are handed around, each `read(files, ...) -> Raw`."""
