"""The readers of foreign bytes under a coverage-guided fuzzer: `make fuzz`, or `python -m fuzz`."""
