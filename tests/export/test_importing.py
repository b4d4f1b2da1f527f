"""Imports: another tool's SAE becomes one of distsae, with what its files do not say, or is refused whole."""

import json

import pytest
import torch
from safetensors.torch import save_file

from distsae.errors import WrongInput
from distsae.export import ImportConfig
from distsae.export.importing import import_sae, measured_l0
from distsae.model import SAE
from distsae.store import Store
from tests.model.formats.samples import D_IN, D_SAE, K, files_in, refuse_differences, rows, sample_sae

HOOK = "blocks.0.resid_post"


def _relu(folder, d_in=D_IN, hook=None):
    """A plain ReLU SAE of SAELens, of which the files say neither budget nor hook."""
    generator = torch.Generator().manual_seed(5)
    decoder = torch.nn.functional.normalize(torch.randn(D_SAE, d_in, generator=generator), dim=1)
    weights = {"W_enc": decoder.t().contiguous(), "W_dec": decoder}
    weights |= {"b_enc": torch.zeros(D_SAE), "b_dec": torch.zeros(d_in)}
    folder.mkdir()
    save_file(weights, folder / "sae_weights.safetensors")
    metadata = {"sae_lens_version": "6.0.0"} | ({} if hook is None else {"hook_name": hook})
    cfg = {"architecture": "standard", "d_in": d_in, "d_sae": D_SAE, "metadata": metadata}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    return folder


def test_what_the_files_do_not_say_is_given(tmp_path):
    folder = _relu(tmp_path / "relu")
    keys = {"k": 9, "hook": "blocks.4.mlp_out", "model": "m", "context_size": 64, "prepend_bos": False}
    cfg, found = import_sae(ImportConfig(sae=str(folder), out=str(tmp_path / "o"), **keys))
    assert found is None
    sae = SAE.load(tmp_path / "o")
    assert sae.cfg == cfg
    assert (cfg.k, cfg.hook_name, cfg.hook_layer, cfg.model_name) == (9, "blocks.4.mlp_out", 4, "m")
    assert (cfg.context_size, cfg.prepend_bos, cfg.architecture) == (64, False, "jumprelu")
    x = rows()
    torch.testing.assert_close(sae.encode(x), ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu())
    assert "README.md" in files_in(tmp_path / "o")


@pytest.mark.parametrize("to", ["saelens", "dictionary_learning", "sparsify", "safetensors"])
def test_an_exported_sae_comes_back_as_it_was(tmp_path, to):
    sae = sample_sae("token_choice")
    sae.export(to, tmp_path / "there")
    import_sae(ImportConfig(sae=str(tmp_path / "there"), out=str(tmp_path / "back")))
    refuse_differences(SAE.load(tmp_path / "back"), sae)


def test_the_budget_is_measured_on_held_out_rows(tmp_path, tiny_store):
    store = Store.open(str(tiny_store))
    folder = _relu(tmp_path / "relu", d_in=store.d_in(HOOK), hook="blocks.0.hook_resid_post")
    cfg, found = import_sae(ImportConfig(sae=str(folder), out=str(tmp_path / "o"), store=str(tiny_store)))
    assert cfg.hook_name == HOOK
    assert found is not None
    assert cfg.k == round(found)
    assert 5 < cfg.k < D_SAE
    assert measured_l0(SAE.load(tmp_path / "o"), store) == found


def test_what_is_refused_leaves_nothing(tmp_path, tiny_store):
    relu = _relu(tmp_path / "relu")
    narrow = _relu(tmp_path / "narrow", hook=HOOK)
    before = files_in(tmp_path)
    cases = [
        ({"sae": str(tmp_path / "nowhere")}, "must be an SAE folder or a finished run"),
        ({"sae": str(relu)}, "`k` must be given for .*run `distsae import` with the store"),
        ({"sae": str(relu), "k": K}, "`hook` must be given, because the files .* do not name one"),
        ({"sae": str(narrow), "store": str(tiny_store)}, "must hold activations as wide as the SAE's d_in"),
        ({"sae": str(narrow), "store": str(tiny_store), "hook": "blocks.9.mlp_out"}, r"`hook` \(=blocks.9.mlp_out\)"),
        ({"sae": str(relu), "out": str(relu), "k": K}, "got one with files in it"),
    ]
    for keys, words in cases:
        with pytest.raises(WrongInput, match=words):
            import_sae(ImportConfig(**{"out": str(tmp_path / "o"), **keys}))
    assert files_in(tmp_path) == before
