"""The whole update in Triton, in a process of its own: on a GPU if there is one, otherwise in Triton's interpreter."""

from pathlib import Path

import pytest
import torch

from tests.kernels.test_triton_gpu import VERSION, _run, installed


@installed
@pytest.mark.skipif(
    VERSION < (3, 7) and not torch.cuda.is_available(), reason="this Triton's interpreter does not support NumPy 2.4"
)
def test_the_whole_update_is_the_one_in_blocks():
    interpret = "0" if torch.cuda.is_available() else "1"
    properties = Path(__file__).with_name("triton_update_properties.py")
    found = _run("pytest", "-p", "no:cacheprovider", str(properties), TRITON_INTERPRET=interpret)
    assert " passed" in found
    assert "skipped" not in found
