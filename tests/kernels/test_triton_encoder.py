"""The product that keeps one bit a score: a process of its own on a GPU or in Triton's interpreter."""

from pathlib import Path

import pytest
import torch

from tests.kernels.test_triton_gpu import VERSION, _run, installed


@installed
@pytest.mark.skipif(
    VERSION < (3, 7) and not torch.cuda.is_available(), reason="this Triton's interpreter does not support NumPy 2.4"
)
def test_bits_and_their_places_are_those_of_a_comparison():
    interpret = "0" if torch.cuda.is_available() else "1"
    properties = Path(__file__).with_name("triton_encoder_properties.py")
    found = _run("pytest", "-p", "no:cacheprovider", str(properties), TRITON_INTERPRET=interpret)
    assert " passed" in found
    assert "skipped" not in found
