"""The training that clusters repeat, as one machine does it."""

from pathlib import Path

import pytest

from tests.clusters.two_nodes import CHANGES
from tests.end_to_end.launching import launch
from tests.end_to_end.runs import arguments


@pytest.fixture(scope="session")
def alone(tiny_store, tmp_path_factory) -> Path:
    """The same run by two processes on one machine, without a scheduler."""
    out = tmp_path_factory.mktemp("alone") / "run"
    done = launch(arguments(tiny_store, out, **CHANGES))
    assert done.returncode == 0, done.stderr
    return out
