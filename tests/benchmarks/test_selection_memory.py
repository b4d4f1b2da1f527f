"""The matrix of tokens x features is never stored: the memory of a selection does not follow the width."""

from pathlib import Path

import pytest

from tests.benchmarks.selection_memory import measured_in_a_process

TOKENS = 1024
K = 8
D_IN = 8
TARGET = 16
CANDIDATES = 8  # MiB: a few times the budget of 8192 matches, vectors with a number a feature, and slack


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("prefilter", [False, True], ids=["fp32", "bf16"])
def test_peak_memory_follows_the_target_and_not_the_width(prefilter):
    narrow, wide = (measured_in_a_process(d_sae, TOKENS, K, D_IN, TARGET, prefilter) for d_sae in (16384, 131072))
    for name, peak in wide.items():
        assert peak < TARGET + CANDIDATES, name  # the scores of the wide one are 512 MiB
        assert peak < narrow[name] + 8, name  # one bit of each score would be 14 more
    everything_at_once = measured_in_a_process(16384, TOKENS, K, D_IN, 1 << 20, prefilter)
    for name, peak in everything_at_once.items():  # the measurement sees a matrix that is there
        assert peak > (32 if prefilter else 64), name
