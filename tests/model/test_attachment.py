"""An SAE in a running model: the rows that it is for are reconstructed, all others stay, generation included."""

import dataclasses

import pytest
import torch

from distsae import SAE
from distsae.errors import WrongInput
from distsae.hooks import capture, splice
from distsae.language_model import load_language_model
from distsae.model import SAEConfig
from distsae.model.attachment import attached

HOOK = "blocks.1.resid_post"


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return load_language_model(str(tiny_model_dir)).model.eval()


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 200, (3, 9), generator=torch.Generator().manual_seed(0))


def _sae(model, **changes):
    d_in = model.config.hidden_size
    generator = torch.Generator().manual_seed(1)
    W_dec = torch.nn.functional.normalize(torch.randn(64, d_in, generator=generator), dim=1)
    values = {
        **{"d_in": d_in, "d_sae": 64, "k": 4, "allocation": "token_choice", "hook_name": HOOK, "hook_layer": 1},
        **{"model_name": "tiny", "context_size": 9, "prepend_bos": True},
        **changes,
    }
    threshold = None if values["allocation"] == "token_choice" else torch.full((64,), 0.1)
    return SAE(SAEConfig(**values), W_dec.T.clone(), W_dec, torch.zeros(64), torch.zeros(d_in), threshold)


@pytest.mark.parametrize("allocation", ["token_choice", "mutual_choice"])
@pytest.mark.parametrize("normalise", ["none", "token"])
def test_the_model_goes_on_with_the_reconstruction(allocation, normalise, model, ids):
    sae = _sae(model, allocation=allocation, normalise=normalise)
    acts = capture(model, [HOOK], ids)[HOOK]
    plain = model(ids).logits
    with sae.attach(model) as seen:
        logits = model(ids).logits
    torch.testing.assert_close(seen.activations, acts)
    torch.testing.assert_close(seen.x_hat, sae(acts), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.feature_acts, sae.encode(acts), rtol=1e-4, atol=1e-5)
    assert seen.included.all()
    with splice(model, HOOK, sae):
        torch.testing.assert_close(logits, model(ids).logits, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(logits, plain)
    torch.testing.assert_close(model(ids).logits, plain, rtol=0, atol=0)  # nothing stays behind


def test_rows_that_the_sae_is_not_for_keep_their_activation(model, ids):
    acts = capture(model, [HOOK], ids)[HOOK]
    norms = acts.norm(dim=-1)
    token = int(ids[1, 5])
    sae = _sae(model, excluded_positions=2, excluded_tokens=(token,), max_norm=float(norms.flatten().sort().values[-3]))
    with sae.attach(model) as seen:
        model(input_ids=ids)
    expected = (ids != token) & (norms <= sae.cfg.max_norm)
    expected[:, :2] = False
    assert torch.equal(seen.included, expected)
    assert torch.equal(seen.x_hat[~expected], seen.activations[~expected])
    assert not torch.isclose(seen.x_hat[expected], seen.activations[expected]).all(-1).any()
    assert not seen.feature_acts[~expected].any()
    assert set(seen.matches.token.tolist()) <= set(expected.flatten().nonzero().squeeze(1).tolist())


def test_observing_changes_nothing(model, ids):
    plain = model(ids).logits
    with _sae(model).attach(model, spliced=False) as seen:
        assert torch.equal(model(ids).logits, plain)
    assert seen.x_hat is None
    assert len(seen.matches.token) == ids.numel() * 4


def test_an_edit_steers_and_the_error_can_be_kept(model, ids):
    sae = _sae(model)

    def add(acts):
        acts[:, 7] += 3
        return acts

    with sae.attach(model, keep_error=True) as seen:
        model(ids)
    torch.testing.assert_close(seen.x_hat, seen.activations)
    with sae.attach(model, edit=add, keep_error=True) as seen:
        model(ids)
    torch.testing.assert_close(
        seen.x_hat - seen.activations, (3 * sae.W_dec[7]).expand_as(seen.x_hat), rtol=0, atol=1e-4
    )
    with sae.attach(model, edit=lambda acts: acts * 0) as seen:
        model(ids)
    torch.testing.assert_close(seen.x_hat, sae.b_dec.expand_as(seen.x_hat))


def test_positions_go_on_through_a_cache(model, ids):
    """Each token of a generation is a pass of one position, which is not the first one of the context."""
    passes = []
    sae = _sae(model, excluded_positions=1)
    with sae.attach(model) as seen:
        handle = model.register_forward_hook(lambda *_: passes.append(seen.included.clone()))
        out = model.generate(ids[:1, :4], max_new_tokens=3, do_sample=False, pad_token_id=0)
        handle.remove()
    assert [found.tolist() for found in passes] == [[[False, True, True, True]], [[True]], [[True]]]
    with sae.attach(model):
        whole = model(out[:, :-1]).logits[:, 3:].argmax(-1)
    assert torch.equal(whole[0], out[0, 4:])


def test_wrong_models_and_settings(model, ids):
    with (
        pytest.raises(WrongInput, match=r"`hook` \(=blocks.9.resid_post\) must exist in the model"),
        _sae(model, hook_name="blocks.9.resid_post").attach(model),
    ):
        pass
    wide = _sae(model)
    cfg = dataclasses.replace(wide.cfg, d_in=5)
    narrow = SAE(cfg, torch.zeros(5, 64), torch.zeros(64, 5), torch.zeros(64), torch.zeros(5))
    with pytest.raises(WrongInput, match="must have activations of width 5 at"), narrow.attach(model):
        model(ids)
    shorter = wide.attach(model, edit=lambda acts: acts[:1])
    with pytest.raises(WrongInput, match="must return feature activations"), shorter:
        model(ids)
    observed = attached(wide, model, spliced=False, keep_error=True)
    with pytest.raises(WrongInput, match=r"`spliced` \(=False\)"), observed:
        pass
    with wide.attach(model) as seen, pytest.raises(WrongInput, match="the model must have run"):
        seen.feature_acts  # noqa: B018 (the property raises)
