"""What a supervisor is before it starts anything; tests/end_to_end/test_supervise.py lets it start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distsae.errors import WrongInput
from distsae.launching import SuperviseConfig, supervise
from distsae.launching.supervisor import _ending


@pytest.mark.parametrize("wrong", [{"restarts": -1}, {"pause": -0.5}])
def test_numbers_that_mean_nothing(wrong):
    (name,) = wrong
    with pytest.raises(WrongInput, match=f"`{name}`"):
        SuperviseConfig(**wrong)


def test_arguments_are_checked_before_anything_is_started():
    with pytest.raises(WrongInput, match="`restarts`"):
        supervise(SuperviseConfig(), ["--num_machines", "2", "script.py"])


def test_ends_in_words():
    assert [_ending(code) for code in (1, 75, 137, 139, 255)] == [
        "with 1",
        "with 75",
        "by SIGKILL",
        "by SIGSEGV",
        "with 255",
    ]


def test_it_stays_small():
    """It lives as long as the training, and must not take a GPU's or torch's memory for that."""
    script = (
        "import sys\nfrom distsae.cli.main import main\nimport distsae.launching\n"
        "assert main(['supervise', '--help']) == 0\n"
        "print([name for name in ('torch', 'accelerate', 'numpy', 'distsae.training') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
