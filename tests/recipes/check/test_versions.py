"""What is installed is listed; a package that training needs and is missing fails the check."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import pytest
import torch

from distsae.recipes.check.versions import devices_found, versions_found


def _without(monkeypatch, name):
    def version(wanted):
        if wanted == name:
            raise PackageNotFoundError(wanted)
        return installed(wanted)

    monkeypatch.setattr("distsae.recipes.check.versions.version", version)


def test_versions_are_those_installed():
    found = versions_found()
    assert found.state == "ok"
    assert found.figures["torch"] == installed("torch")
    assert f"torch {torch.__version__}" in found.text


@pytest.mark.parametrize(("name", "state"), [("accelerate", "failed"), ("deepspeed", "ok"), ("wandb", "ok")])
def test_only_what_training_needs_must_be_there(monkeypatch, name, state):
    _without(monkeypatch, name)
    found = versions_found()
    assert (found.state, found.figures[name]) == (state, "none")


def test_devices_of_this_machine():
    found = devices_found()
    assert found.state == "ok"
    assert found.figures["gpus"] == torch.cuda.device_count()
    assert found.figures["cores"] >= 1
