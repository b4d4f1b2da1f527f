"""The tiny model's files, and settings under which its corpus is tokenised."""

from __future__ import annotations

import pytest

from distsae.language_model import find_model
from distsae.producer import ProduceConfig


@pytest.fixture(scope="package")
def files(tiny_model_dir):
    return find_model(str(tiny_model_dir))


@pytest.fixture
def config(tiny_model_dir, tiny_corpus):
    return ProduceConfig(
        model=str(tiny_model_dir),
        corpus=str(tiny_corpus),
        hooks=("h",),
        out="o",
        context_length=32,
        heldout_by="contexts",
    )
