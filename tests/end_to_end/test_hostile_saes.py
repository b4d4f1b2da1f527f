"""Folders of other tools with hostile content: one line or success, soon, in little memory; no traceback."""

import io
import json

import pytest
import torch

from distsae.model import SAE
from tests.hostile import as_json, changed, damaged, fuzz, try_all
from tests.model.formats.samples import D_IN, sample_sae

CONFIGS = [
    ("saelens", "mutual_choice", "cfg.json", True),
    ("saelens", "token_choice", "cfg.json", False),
    ("dictionary_learning", "mutual_choice", "config.json", True),
    ("dictionary_learning", "feature_choice", "config.json", False),
    ("sparsify", "token_choice", "cfg.json", False),
]


def _load(folder):
    SAE.load(folder, k=2).encode(torch.ones(2, D_IN))


@fuzz
@pytest.mark.parametrize(("to", "rule", "file", "own"), CONFIGS)
def test_the_config_of_an_sae(tmp_path, examples, to, rule, file, own):
    sample_sae(rule).export(to, tmp_path / "sae")
    path = tmp_path / "sae" / file
    content = json.loads(path.read_text())
    if not own:  # without the config of distsae, what the tool says counts
        (content.get("metadata") or content).pop("distsae")
    put = lambda values: path.write_bytes(values if isinstance(values, bytes) else as_json(values))  # noqa: E731
    try_all(examples, changed(content) | damaged(as_json(content)), put, lambda: _load(tmp_path / "sae"))


@fuzz
def test_the_weights_of_dictionary_learning(tmp_path, examples):
    sample_sae("mutual_choice").export("dictionary_learning", tmp_path / "sae")
    path = tmp_path / "sae" / "ae.pt"
    encoded = path.read_bytes()
    tensors = torch.load(path, weights_only=True)

    def put(values):
        if isinstance(values, bytes):
            path.write_bytes(values)
            return
        content = {
            name: tensors.get(name, torch.tensor(1.0)) if value is None else value for name, value in values.items()
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        path.write_bytes(buffer.getvalue())

    names = dict.fromkeys(tensors)
    try_all(examples, changed(names) | damaged(encoded), put, lambda: _load(tmp_path / "sae"))
