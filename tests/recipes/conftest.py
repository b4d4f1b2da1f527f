import json
import os
import subprocess
import sys

import pytest


def write_corpus(path, hash_seed):
    """Returns the documents that a separate process writes: here, libraries may have replaced functions of `sys`."""
    command = [sys.executable, "-m", "distsae.recipes.embedded_corpus", str(path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="package")
def corpus(tmp_path_factory):
    """The embedded corpus of the Python that runs the tests; reading it takes seconds."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", "0")
