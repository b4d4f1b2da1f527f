"""An SAE and a store are opened together, and refused if they do not belong together."""

import pytest
import torch

from distsae.errors import WrongInput
from distsae.model import SAE
from distsae.model.sae_on_store import open_on_store, refuse_other_store
from distsae.store import Store
from tests.reporting.features.samples import save_random_sae

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_what_the_files_stand_for_in_fp32(tiny_store, tmp_path, dtype):
    run = save_random_sae(tmp_path / "run" / "sae").parent
    sae = SAE.load(run).to(dtype)
    sae.save(run / "sae")
    opened = open_on_store(str(run), str(tiny_store), CPU)
    assert opened.path == run / "sae"
    assert not opened.sae.training
    assert torch.equal(opened.sae.W_dec, sae.W_dec.float())
    assert opened.store.path == Store.open(tiny_store).path


def test_another_hook_or_width_or_none(tiny_store, tmp_path):
    for changes, said in (
        ({"d_in": 16}, "`store` .*tiny.* must hold activations as wide as the SAE's d_in 16; got 32 at blocks"),
        ({"hook_name": "blocks.7.resid_post"}, r"`hook` \(=blocks.7.resid_post\) must be in the store"),
        ({"hook_name": ""}, r"`run` .* must be an SAE whose hook is known; .* use `distsae import`"),
    ):
        path = save_random_sae(tmp_path / said[:9], **changes)
        with pytest.raises(WrongInput, match=said):
            open_on_store(str(path), str(tiny_store), CPU)
    refuse_other_store(SAE.load(save_random_sae(tmp_path / "fits")).cfg, Store.open(tiny_store))
