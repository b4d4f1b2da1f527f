import json
import shutil

import pytest

from distsae.errors import WrongInput
from distsae.language_model import find_model, load_language_model


def test_configuration_counts_as_well(tiny_model_dir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_dir, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "transformers_version": "0"}))
    assert find_model(str(copy)).digest == find_model(str(tiny_model_dir)).digest
    (copy / "config.json").write_text(json.dumps({**config, "layer_norm_epsilon": 1e-3}))
    assert find_model(str(copy)).digest != find_model(str(tiny_model_dir)).digest


def test_hub_name_without_network(monkeypatch):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(WrongInput, match="cannot reach the hub; check the name and the network"):
        load_language_model("nobody/no-such-model")
