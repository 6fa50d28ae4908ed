"""Small scripts that compose the library: `python -m experiments.NAME --help`."""
