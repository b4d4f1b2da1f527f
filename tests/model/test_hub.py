"""To the Hub and back, by a server of the test's own: one process with a network, and one that has the cache alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distsae.errors import WrongInput
from distsae.model import SAE
from distsae.model.hub import fetched, is_hub_name, parts_of_name, require_repository
from tests.model.formats.samples import refuse_differences, sample_sae
from tests.model.hub_server import TOKEN, hub_server

WITH_A_NETWORK = """
from distsae import SAE
from distsae.errors import WrongInput
from tests.model.formats.samples import refuse_differences, sample_sae

sae = sample_sae("feature_choice")
print(sae.push_to_hub("user/saes", licence="mit", private=True))
print(sae.push_to_hub("user/saes", "others/layer-3", to="saelens"))
refuse_differences(SAE.load("user/saes"), sae)
refuse_differences(SAE.load("user/saes/others/layer-3"), sae)
for name in ("user/nothing", "user/saes/nowhere"):
    try:
        SAE.load(name)
    except WrongInput as error:
        print("refused:", error)
import os
os.environ["HF_TOKEN"] = "another"
try:
    sae.push_to_hub("user/saes")
except WrongInput as error:
    print("refused:", error)
"""
WITHOUT = """
from distsae import SAE
from distsae.errors import WrongInput
from tests.model.formats.samples import refuse_differences, sample_sae

sae = sample_sae("feature_choice")
refuse_differences(SAE.load("user/saes"), sae)
refuse_differences(SAE.load("user/saes/others/layer-3"), sae)
try:
    sae.push_to_hub("user/saes")
except WrongInput as error:
    print("refused:", error)
"""

PLAIN = {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
"""The other way to upload and download large files needs servers of its own."""


def _run(script, tmp_path, **environment):
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, **PLAIN} | environment,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_to_the_hub_and_back_and_from_the_cache(tmp_path):
    with hub_server(tmp_path / "repositories") as server:
        lines = _run(WITH_A_NETWORK, tmp_path, HF_ENDPOINT=server.endpoint, HF_HUB_OFFLINE="0")
        endpoint = server.endpoint
        private = server.private
    repository = tmp_path / "repositories" / "user" / "saes"
    assert lines[0].startswith(f"{endpoint}/user/saes/commit/")
    assert private == {"user/saes": True}
    assert (repository / "README.md").read_text().startswith("---\nlicense: mit\n")
    refuse_differences(SAE.load(repository), sample_sae("feature_choice"))
    assert (repository / "others" / "layer-3" / "sae_weights.safetensors").is_file()
    refused = [line for line in lines if line.startswith("refused: ")]
    assert "`user/nothing` must be a folder, or an SAE on the Hugging Face Hub" in refused[0]
    assert "must be an SAE folder or a finished run" in refused[1]
    assert "`repo` (=user/saes) must be a repository that you may write to" in refused[2]
    assert len(refused) == 3
    lines = _run(WITHOUT, tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1")
    assert lines[0].startswith("refused: `repo` (=user/saes) must be a repository that you may write to")


def test_names_of_the_hub():
    for name in ("user/name", "user/name/folder", "a.b-c/d_e/x/y.z"):
        assert is_hub_name(name)
    for name in (
        "name",
        "/user/name",
        "./user/name",
        "../name",
        "user/../name",
        "user//name",
        "~/name",
        "user/name/",
        "",
    ):
        assert not is_hub_name(name)
    require_repository("user/name")
    for name in ("user", "user/name/folder", "https://a/b"):
        with pytest.raises(WrongInput, match=r"`repo` \(=.*must be the name of a repository; .*use user/name"):
            require_repository(name)


def test_nothing_is_found_without_a_network():
    with pytest.raises(WrongInput, match="`user/not-there` must be a folder, or an SAE on the Hugging Face Hub"):
        fetched("user/not-there", "", "`user/not-there`")


def test_repository_and_folder_of_a_name():
    assert parts_of_name("user/name") == ("user/name", "")
    assert parts_of_name("user/name/a/b.c") == ("user/name", "a/b.c")
