"""Few descriptors: the limit is raised where it may be, and files are opened for each reading where it may not."""

import resource
import subprocess
import sys

import pytest

from distsae.batches.descriptors import may_open

_ASK = """
import resource, sys
from distsae.batches.descriptors import may_open
soft, hard, files = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(may_open(files), resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= files)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "files", "answer"),
    [
        (96, 96, 128, "False False"),
        (96, 512, 128, "True True"),
        (512, 512, 128, "True True"),
        (96, 200, 4, "True True"),
    ],
)
def test_in_a_process_with_a_limit(soft, hard, files, answer):
    ended = subprocess.run(
        [sys.executable, "-c", _ASK, str(soft), str(hard), str(files)], capture_output=True, text=True, timeout=100
    )
    assert ended.stdout.strip() == answer, ended.stderr


def test_without_a_list_of_open_files(monkeypatch, tmp_path):
    monkeypatch.setattr("distsae.batches.descriptors._OPEN_FILES", tmp_path / "none")
    assert may_open(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        assert not may_open(hard)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= soft
