"""Figures that anyone can take again: `python -m tests.benchmarks.NAME` prints a table."""
