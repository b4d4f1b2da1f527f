"""SAEs by their names in SAELens's releases: the table of a package as it is laid out, and files in the Hub's cache."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from distsae.errors import WrongInput
from distsae.model import SAE
from distsae.model.formats import saelens_releases
from distsae.model.formats.saelens_releases import released_sae
from tests.model.formats.samples import D_IN, D_SAE, rows, sample_sae

TABLE = """
gpt2-small-res-jb:
  conversion_func: null
  model: gpt2-small
  repo_id: jbloom/GPT2-Small-SAEs-Reformatted
  config_overrides:
    model_from_pretrained_kwargs:
      center_writing_weights: true
  saes:
  - id: blocks.8.hook_resid_pre
    path: blocks.8.hook_resid_pre
    l0: 38.4
    variance_explained: 0.97
    neuronpedia: gpt2-small/8-res-jb
  - id: without/l0
    path: sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1
    norm_scaling_factor: 0.25
gemma-scope-2b-pt-res:
  conversion_func: gemma_2
  model: gemma-2-2b
  repo_id: google/gemma-scope-2b-pt-res
  saes:
  - id: layer_0/width_16k/average_l0_105
    path: layer_0/width_16k/average_l0_105
wrong:
  conversion_func: null
  model: gpt2
  repo_id: 3
  saes: []
"""
NAME = "saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder on the path of imports, in which sae-lens lies as it is installed; importing it fails."""
    folder = tmp_path / "packages" / "sae_lens"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('nothing of it may be imported')\n")
    (folder / "pretrained_saes.yaml").write_text(TABLE)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delitem(sys.modules, "sae_lens", raising=False)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The Hub's cache, with the files of an SAE as `hf_hub_download` leaves them: one snapshot, named by `main`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--jbloom--GPT2-Small-SAEs-Reformatted"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c" * 40)
    return repository / "snapshots" / ("c" * 40)


def _files(folder, **changes):
    """An SAE in the files of SAELens 3, a ReLU one, as the first releases are."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(5)
    weights = {
        "W_enc": torch.randn(D_IN, D_SAE, generator=generator),
        "W_dec": torch.randn(D_SAE, D_IN, generator=generator),
        "b_enc": torch.randn(D_SAE, generator=generator) - 1,
        "b_dec": torch.randn(D_IN, generator=generator),
    }
    cfg = {"d_in": D_IN, "d_sae": D_SAE, "hook_point": "blocks.8.hook_resid_pre", "context_size": 128} | changes
    (folder / "cfg.json").write_text(json.dumps(cfg))
    save_file(weights, folder / "sae_weights.safetensors")
    return weights


def test_a_release_is_read_from_the_cache_as_saelens_would(package, cache):
    w = _files(cache / "blocks.8.hook_resid_pre")
    sae, x = SAE.load(NAME), rows() + 3
    centred = x - x.mean(1, keepdim=True)  # what center_writing_weights makes of the residual stream
    torch.testing.assert_close(
        sae.encode(x), ((centred - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu(), rtol=1e-4, atol=1e-4
    )
    assert torch.equal(sae.W_dec, w["W_dec"])
    assert (sae.cfg.k, sae.cfg.model_name, sae.cfg.hook_name) == (38, "gpt2-small", "blocks.8.resid_pre")
    assert SAE.load(NAME, k=7, hook="blocks.2.resid_post").cfg.k == 7


def test_the_scaling_factor_of_the_table_is_folded(package, cache):
    name = "saelens:gpt2-small-res-jb/without/l0"
    kwargs = {"normalize_activations": "expected_average_only_in", "apply_b_dec_to_input": False}
    w = _files(cache / "sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1", **kwargs)
    (package / "pretrained_saes.yaml").write_text(TABLE.replace("center_writing_weights: true", "x: 1"))
    saelens_releases._read_table.cache_clear()
    sae, x = SAE.load(name, k=9), rows()
    acts = (0.25 * x @ w["W_enc"] + w["b_enc"]).relu()
    torch.testing.assert_close(sae.encode(x), acts, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sae(x), (acts @ w["W_dec"] + w["b_dec"]) / 0.25, rtol=1e-4, atol=1e-4)
    with pytest.raises(WrongInput, match="`k` must be given"):
        SAE.load(name)


def test_an_sae_of_distsae_in_a_release(package, cache):
    sample_sae().save(cache / "blocks.8.hook_resid_pre")
    assert SAE.load(NAME).cfg == sample_sae().cfg


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("saelens:gpt2-small-res-jb", "name a release and an SAE of it; .* use saelens:RELEASE/SAE_ID"),
        ("saelens:gpt2-small-res/blocks.8.hook_resid_pre", "got gpt2-small-res, .*; did you mean 'gpt2-small-res-jb'"),
        ("saelens:gpt2-small-res-jb/blocks.9.hook_resid_pre", "none of its 2; did you mean 'blocks.8.hook_resid_pre'"),
        (
            "saelens:gemma-scope-2b-pt-res/layer_0/width_16k/average_l0_105",
            "got those that sae-lens reads with its",
        ),
        ("saelens:wrong/a", "got `wrong.repo_id` must be text"),
    ],
)
def test_names_that_lead_nowhere(package, name, said):
    with pytest.raises(WrongInput, match=f"`{name}` must .*{said}"):
        SAE.load(name)


def test_files_that_are_not_in_the_cache(package, cache):
    with pytest.raises(WrongInput, match=rf"`{NAME}` must be a folder, or an SAE on the Hugging Face Hub"):
        SAE.load(NAME)


def test_without_the_package_or_its_table(package, monkeypatch):
    (package / "pretrained_saes.yaml").write_text("- a list")
    saelens_releases._read_table.cache_clear()
    with pytest.raises(WrongInput, match=r"must be sae-lens's table of releases; got no mapping; give the repository"):
        released_sae(NAME)
    (package / "pretrained_saes.yaml").unlink()
    with pytest.raises(WrongInput, match=r"must be sae-lens's table of releases; got: .*No such file"):
        released_sae(NAME)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(WrongInput, match=r"got no such package installed; install sae-lens, or give the repository as"):
        released_sae(NAME)


@pytest.fixture(autouse=True)
def _fresh_table():
    saelens_releases._read_table.cache_clear()
    yield
    saelens_releases._read_table.cache_clear()
