"""A rank describes what it holds in terms of global tensors."""

from __future__ import annotations

import torch

from distsae.checkpoint.state import DTYPES, Shard, TensorFacts, describe, dtype_name


def test_shards_and_whole_tensors_are_described() -> None:
    facts = describe(
        {"W": Shard(torch.zeros(3, 4, dtype=torch.bfloat16), 6, 10), "b": torch.zeros(5), "": torch.ones(())}
    )
    assert facts == {
        "": TensorFacts("F32", (), False, (0, 1)),
        "W": TensorFacts("BF16", (10, 4), True, (6, 9)),
        "b": TensorFacts("F32", (5,), False, (0, 5)),
    }
    assert list(facts) == ["", "W", "b"]


def test_dtypes_have_the_names_of_safetensors() -> None:
    assert {dtype_name(dtype) for dtype in DTYPES.values()} == set(DTYPES)
    assert dtype_name(torch.complex64) == "torch.complex64"
