"""Moments in a GPU's update: a process of its own on a GPU or in Triton's interpreter, and how rows are laid out."""

from pathlib import Path

import pytest
import torch

from distsae.kernels import moments_of
from tests.kernels.test_triton_gpu import VERSION, _run, installed


@installed
@pytest.mark.skipif(
    VERSION < (3, 7) and not torch.cuda.is_available(), reason="this Triton's interpreter does not support NumPy 2.4"
)
def test_moments_have_the_bits_of_the_plain_ones():
    interpret = "0" if torch.cuda.is_available() else "1"
    properties = Path(__file__).with_name("triton_moments_properties.py")
    found = _run("pytest", "-p", "no:cacheprovider", str(properties), TRITON_INTERPRET=interpret)
    assert " passed" in found
    assert "skipped" not in found


@installed
@pytest.mark.parametrize(
    ("kind", "width", "layout"),
    [
        ("fp32", 768, (768, 1024, 1024)),
        ("bf16", 3, (3, 16, 16)),
        ("int8", 768, (256, 256, 1024)),
        ("int8", 576, (192, 256, 1024)),
        ("int8", 257, (1, 1, 512)),
        ("int8", 1, (1, 1, 16)),
    ],
)
def test_a_program_holds_whole_blocks(kind, width, layout):
    from distsae.kernels.triton_moments import layout_of

    assert layout_of(moments_of("W", torch.zeros(2, width), kind, 0, 0).kept(1)) == layout
