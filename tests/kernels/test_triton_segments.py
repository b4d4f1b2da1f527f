"""Rows summed in segments: a process of its own on a GPU or in Triton's interpreter, and the number of slots."""

from pathlib import Path

import pytest
import torch

from tests.kernels.test_triton_gpu import VERSION, _run, installed


@installed
@pytest.mark.skipif(
    VERSION < (3, 7) and not torch.cuda.is_available(), reason="this Triton's interpreter does not support NumPy 2.4"
)
def test_long_rows_are_summed_in_segments_in_one_order():
    interpret = "0" if torch.cuda.is_available() else "1"
    properties = Path(__file__).with_name("triton_segments_properties.py")
    found = _run("pytest", "-p", "no:cacheprovider", str(properties), TRITON_INTERPRET=interpret)
    assert " passed" in found
    assert "skipped" not in found


@installed
def test_there_are_two_slots_a_window_and_none_where_no_row_can_be_long():
    from distsae.kernels.triton_segments import SEGMENT, slots_for

    assert [slots_for(entries) for entries in (0, 1, SEGMENT)] == [0, 0, 0]
    assert slots_for(SEGMENT + 1) == 4
    assert slots_for(10 * SEGMENT) == 20
