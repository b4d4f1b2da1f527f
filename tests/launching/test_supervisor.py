"""A supervisor that starts nothing; tests/end_to_end/test_supervise.py runs it around launches."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distsae.errors import WrongInput
from distsae.launching import SuperviseConfig, supervise
from distsae.launching.supervisor import _ending


@pytest.mark.parametrize("wrong", [{"restarts": -1}, {"pause": -0.5}, {"grace": -1.0}])
def test_negative_numbers_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(WrongInput, match=f"`{name}`"):
        SuperviseConfig(**wrong)


def test_arguments_are_checked_before_anything_is_started():
    with pytest.raises(WrongInput, match="`restarts`"):
        supervise(SuperviseConfig(), ["--num_machines", "2", "script.py"])


def test_exit_codes_in_words():
    assert [_ending(code) for code in (1, 75, 137, 139, 255)] == [
        "with 1",
        "with 75",
        "by SIGKILL",
        "by SIGSEGV",
        "with 255",
    ]


def test_the_supervisor_does_not_import_torch():
    """It runs as long as the training, and must not hold memory of a GPU or of torch all that time."""
    script = (
        "import sys\nfrom distsae.cli.main import main\nimport distsae.launching\n"
        "assert main(['supervise', '--help']) == 0\n"
        "print([name for name in ('torch', 'accelerate', 'numpy', 'distsae.training') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
