"""One training step of each contestant of `tests.benchmarks.step_against_peers`, each in a process of its own.

A module of a contestant imports its own library alone, and has `build(size, data) -> Contestant`.
"""
