"""Streams of random numbers are pure functions of seed and name, and never change."""

import os
import subprocess
import sys

import torch

from distsae.seeds import derive, numpy_generator, torch_generator


def test_values_that_must_never_change():
    """A later version can repeat a run only if these stay the same."""
    assert derive(0, "rows", 0) == 856204985919944763
    assert derive(1, "chunks", 7) == 5199028496057254207


def test_seeds_and_names_give_streams_of_their_own():
    seeds = {derive(seed, *names) for seed in range(20) for names in (("a",), ("b",), ("a", 1), ("a", 2), ("b", 1))}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(0, "a", "b") == derive(0, "a", "b")


def test_generators():
    x, again, y = (torch.randn(5, generator=torch_generator(3, name)) for name in ("x", "x", "y"))
    assert torch.equal(x, again)
    assert not torch.equal(x, y)
    assert numpy_generator(3, "x").integers(1 << 60) == numpy_generator(3, "x").integers(1 << 60)
    assert numpy_generator(3, "x").integers(1 << 60) != numpy_generator(4, "x").integers(1 << 60)


def test_seeds_do_not_depend_on_the_hash_seed_of_the_process():
    code = "from distsae.seeds import derive; print(derive(5, 'name'))"
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(found.stdout) == derive(5, "name")
