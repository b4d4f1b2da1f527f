"""`begin_from`: a run starts with the scores and reconstructions of an SAE, on any mesh and with any normalisation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from distsae import SAE
from distsae.batches import Normalisation
from distsae.errors import WrongInput
from distsae.model import FeatureShard, SAEConfig
from distsae.training import SizeConfig, begin_from, train
from tests.distributed.processes import run_on_mesh
from tests.training.sample_runs import config_of, metrics, state

D_IN, D_SAE = 12, 50


def _sae(folder: Path, norms: torch.Tensor | float = 1.0) -> SAE:
    generator = torch.Generator().manual_seed(3)
    cfg = SAEConfig(
        d_in=D_IN,
        d_sae=D_SAE,
        k=4,
        allocation="token_choice",
        hook_name="a.b",
        hook_layer=None,
        model_name="m",
        context_size=8,
        prepend_bos=True,
    )
    rows = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    scale = torch.as_tensor(norms).expand(D_SAE)[:, None]
    sae = SAE(
        cfg,
        W_enc=torch.randn(D_IN, D_SAE, generator=generator),
        W_dec=rows * scale,
        b_enc=torch.randn(D_SAE, generator=generator),
        b_dec=torch.randn(D_IN, generator=generator),
    )
    sae.save(folder)
    return sae


def _begun(mesh, folder, normalisation):
    """Returns this rank's parameters after `begin_from`."""
    shard = FeatureShard(D_IN, D_SAE, mesh.features(D_SAE), torch.zeros(D_IN), seed=0)
    begin_from(str(folder), shard, normalisation, rows_at_once=7)
    return {name: parameter.detach().clone() for name, parameter in shard.named_parameters()}


@pytest.mark.parametrize("shifted", [False, True])
def test_scores_and_reconstruction_are_those_of_the_sae(shifted, tmp_path):
    sae = _sae(tmp_path / "sae", torch.linspace(0.5, 3, D_SAE))
    normalisation = Normalisation(0.37, torch.linspace(-1, 1, D_IN) if shifted else None)
    (parameters,) = run_on_mesh(_begun, (1, 1), tmp_path / "sae", normalisation)
    raw = torch.randn(40, D_IN, generator=torch.Generator().manual_seed(4))
    x = normalisation.apply(raw.clone())
    pre_acts = (x - parameters["b_dec"]) @ parameters["W_enc"].t() + parameters["b_enc"]
    x_hat = pre_acts.relu() @ parameters["W_dec"] + parameters["b_dec"]
    with torch.no_grad():
        expected = (raw - sae.b_dec) @ sae.W_enc + sae.b_enc
        norms = sae.W_dec.norm(dim=1)
        torch.testing.assert_close(pre_acts, expected * norms * 0.37, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(normalisation.undo(x_hat), sae.decode(expected.relu()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(parameters["W_dec"].norm(dim=1), torch.ones(D_SAE))
    for shape in ((1, 2), (2, 1), (1, 3)):
        ranks = run_on_mesh(_begun, shape, tmp_path / "sae", normalisation)
        assert all(torch.equal(rank["b_dec"], parameters["b_dec"]) for rank in ranks)
        for name in ("W_enc", "W_dec", "b_enc"):
            assert torch.equal(torch.cat([rank[name] for rank in ranks[: shape[1]]]), parameters[name]), name


def test_a_row_without_direction_is_refused(tmp_path):
    norms = torch.ones(D_SAE)
    norms[33] = 0
    _sae(tmp_path / "sae", norms)
    with pytest.raises(WrongInput, match="must have decoder rows of finite, positive norm"):
        run_on_mesh(_begun, (1, 1), tmp_path / "sae", Normalisation(1.0, None))


@pytest.fixture(scope="module")
def before(tiny_store, tmp_path_factory):
    config = config_of(tiny_store, tmp_path_factory.mktemp("runs") / "before", normalise="centre")
    train(config)
    return config


def test_fine_tuning_starts_with_the_loss_of_the_sae(before, tmp_path):
    """The normalisation is another one than before. Random features would begin with a far larger loss."""
    size = SizeConfig(d_sae=before.sae.d_sae, k=before.sae.k)
    config = dataclasses.replace(before, out=str(tmp_path / "on"), init=before.out, normalise="scale", sae=size)
    train(dataclasses.replace(config, steps=8))
    first, last = metrics(tmp_path / "on")[0]["fvu"], metrics(Path(before.out))[-1]["fvu"]
    assert first == pytest.approx(last, rel=0.25)
    assert first < 0.8 * metrics(Path(before.out))[0]["fvu"]
    # A resumed run does not read the SAE that it began from, which may be gone, but `init` must name the same one.
    resumed = dataclasses.replace(config, steps=12)
    (Path(before.out) / "sae").rename(tmp_path / "gone")
    try:
        train(resumed)
    finally:
        (tmp_path / "gone").rename(Path(before.out) / "sae")
    assert metrics(tmp_path / "on")[-1]["step"] == 12
    assert state(tmp_path / "on" / "sae")
    with pytest.raises(WrongInput, match=r"`init` \(=None\) must stay what the run .* got .*before there"):
        train(dataclasses.replace(resumed, init=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sae": SizeConfig(d_sae=128, k=4)}, r"must be an SAE of d_in 32 and d_sae 128; got d_in 32 and d_sae 256"),
        ({"init": "nowhere"}, "`nowhere` must be an SAE folder or a finished run"),
    ],
)
def test_an_sae_that_does_not_fit_is_refused_before_anything_is_written(changes, message, before, tmp_path):
    with pytest.raises(WrongInput, match=message):
        train(dataclasses.replace(before, **({"init": before.out, "out": str(tmp_path / "run")} | changes)))
    assert not (tmp_path / "run").exists()
