"""The frozen SAE: on raw activations it computes what the shard computes on normalised ones, with `k` matches."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from distsae.allocation import FeatureSelector, MutualSelector
from distsae.batches import BatchReader, Normalisation
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.store import Store
from distsae.training import SizeConfig, TrainConfig, initial_state
from distsae.training.freezing import frozen_sae
from tests.distributed.processes import run_on_mesh
from tests.pretended_cuda import CUDA, pretended_cuda
from tests.training.samples import RULES

HOOK = "blocks.0.resid_post"
D_SAE = 64
K = 4
SCALE = 0.37
STEPS = 7
SHIFT = torch.linspace(-0.5, 0.5, 32)


def _moved_shard(mesh, store):
    """Returns this rank's features with weights that differ from the initial ones, the same on every mesh."""
    features = mesh.features(D_SAE)
    shard = FeatureShard(32, D_SAE, features, store.statistics(HOOK).mean * SCALE, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (shard.W_enc, shard.W_dec, shard.b_enc):
            noise = 0.2 * torch.randn(D_SAE, *parameter.shape[1:], generator=generator)
            parameter += noise[features.start : features.stop]
        shard.b_dec += 0.1 * torch.randn(32, generator=generator)
        shard.normalise_decoder()
    return shard


def _finish(mesh, store_path, rule, device="cpu", shifted=False, **options):
    """Returns the shard, and the SAE and the gap of `frozen_sae`, as at the end of a run under a rule."""
    store, device = Store.open(store_path), torch.device(device)
    config = TrainConfig(
        store=str(store_path),
        out="o",
        hook=HOOK,
        sae=SizeConfig(d_sae=D_SAE, k=K),
        batch_tokens=128,
        allocation=rule,
        quotas_hold="every_batch",  # as the training rule of a finished SAE has them; prices: `test_gap.py`
        steps=STEPS,
        normalise="scale",
    )
    shard = _moved_shard(mesh, store)
    for name, parameter in shard.named_parameters():
        setattr(shard, name, torch.nn.Parameter(parameter.detach().to(device)))
    state = initial_state(config, shard, mesh, shard.b_dec.detach(), 1.0)
    state.phases.prepare(0, state.statistics)
    if rule == "mutual_choice":
        mutual = MutualSelector(K)
        mutual.cut = 0.5
        state.thresholds.update(mutual)
    elif rule == "feature_choice":
        features = mesh.features(D_SAE)
        selector = FeatureSelector(len(features))
        cuts = torch.linspace(0.3, 0.9, D_SAE)
        cuts[::10] = torch.nan  # never selected
        selector.cuts = cuts[features.start : features.stop].to(device)
        state.thresholds.update(selector)
    reader = BatchReader(store, HOOK, 128, config.seed, mesh.data.rank, mesh.data.size)
    reader.normalisation = Normalisation(SCALE, SHIFT if shifted else None)
    try:
        return shard, *frozen_sae(state, store, reader, **options)
    finally:
        reader.close()


def _rows(store_path, split):
    store = Store.open(store_path)
    return torch.cat([store.read_chunk(HOOK, chunk) for chunk in store.chunks(split)]).float()


@pytest.mark.parametrize("shifted", [True, False], ids=["shifted", "scaled only"])
@pytest.mark.parametrize("rule", RULES)
def test_frozen_on_raw_activations_equals_the_shard_on_normalised_ones(rule, tiny_store, shifted):
    mesh = build_mesh(MeshConfig(), 1, "cpu")
    shard, sae, _ = _finish(mesh, tiny_store, rule, shifted=shifted)
    raw, shift = _rows(tiny_store, "train")[:500], SHIFT if shifted else 0.0
    scaled = (raw - shift) * SCALE
    with torch.no_grad():
        pre_acts = (scaled - shard.b_dec) @ shard.W_enc.t() + shard.b_enc
        if rule == "token_choice":
            assert sae.threshold is None
            fires = pre_acts >= pre_acts.topk(K, dim=1).values[:, -1:]
        else:
            fires = pre_acts > sae.threshold * SCALE
        near = ((pre_acts - pre_acts.where(fires, torch.inf).amin(1, keepdim=True)).abs() < 1e-4) & ~fires
        expected = pre_acts.relu() * fires
        found = sae.encode(raw) * SCALE
        sure = ~near if rule == "token_choice" else (pre_acts - sae.threshold * SCALE).abs() > 1e-4
        torch.testing.assert_close(found[sure], expected[sure], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            (sae.decode(sae.encode(raw)) - shift) * SCALE, found @ shard.W_dec + shard.b_dec, rtol=1e-4, atol=1e-4
        )
        assert sure.float().mean() > 0.99


@pytest.mark.parametrize("rule", RULES)
def test_calibration_rows_have_k_matches_each_on_average(rule, tiny_store):
    _, sae, _ = _finish(build_mesh(MeshConfig(), 1, "cpu"), tiny_store, rule)
    heldout = _rows(tiny_store, "heldout")[:128]  # the rows that every mesh calibrates on
    assert len(sae.matches(heldout)) == pytest.approx(K * len(heldout), abs=4)  # rounding may change a match at the cut
    if rule == "mutual_choice":
        assert (sae.threshold == sae.threshold[0]).all()
    if rule == "feature_choice":
        assert sae.quota_per_token.sum().item() == pytest.approx(K)
        rows = _rows(tiny_store, "train")
        fired = torch.bincount(sae.matches(rows).feature, minlength=D_SAE) / len(rows)
        off = (fired / sae.quota_per_token).log().abs()  # a large quota may exceed a feature's positive scores
        assert off.median() < 0.4
        assert off.quantile(0.9) < 0.6


@pytest.mark.parametrize("rule", RULES)
def test_the_gap_is_measured_on_rows_that_were_not_used_for_calibration(rule, tiny_store):
    _, sae, gap = _finish(build_mesh(MeshConfig(), 1, "cpu"), tiny_store, rule)
    rows = _rows(tiny_store, "heldout")[128:256]
    energy = (rows - rows.mean(0)).square().sum()
    assert gap.rows == len(rows)
    for name, l0, fvu in (("frozen", gap.l0, gap.fvu), ("training", gap.l0_training, gap.fvu_training)):
        matches = sae.matches(rows, name)  # one batch of 128, as in training
        assert l0 == pytest.approx(len(matches) / len(rows), abs=2 / len(rows))
        error = (sae.decode_matches(matches, rows) - rows).square().sum()
        assert fvu == pytest.approx((error / energy).item(), rel=1e-3)
    assert gap.l0 == pytest.approx(K, rel=0.3)
    assert (gap.l0 == gap.l0_training) == (gap.fvu == gap.fvu_training) == (rule == "token_choice")
    line = gap.sentence()
    assert line.startswith(f"frozen rule on 128 held-out rows: L0 {gap.l0:.2f} (training rule {gap.l0_training:.2f})")
    assert line.endswith(f"FVU {gap.fvu:.4f} ({gap.fvu_training:.4f})")


def _finish_on(mesh, store_path, rule):
    # Slices of seven rows for three ranks: the first of them has one slice more than the others.
    _, sae, gap = _finish(mesh, store_path, rule, slice_bytes=7 * 3 * 4 * 32)
    return (None if sae is None else (sae.cfg, sae.state_dict())), gap


@pytest.mark.parametrize("rule", RULES)
def test_every_mesh_gives_the_same_sae_on_the_main_process(rule, tiny_store):
    (((cfg, alone), gap),) = run_on_mesh(_finish_on, (1, 1), tiny_store, rule)
    for shape in ((1, 2), (2, 2), (1, 3)):
        ranks = run_on_mesh(_finish_on, shape, tiny_store, rule)
        (first, *others), gaps = [rank[0] for rank in ranks], [rank[1] for rank in ranks]
        assert others == [None] * len(others)
        assert first[0] == cfg
        assert first[1].keys() == alone.keys()
        for name, tensor in first[1].items():
            tolerance = 1e-4 if name == "threshold" else 1e-6
            torch.testing.assert_close(tensor, alone[name], rtol=tolerance, atol=0)
        assert all(other == gaps[0] for other in gaps)
        for name, number in dataclasses.asdict(gap).items():
            assert getattr(gaps[0], name) == pytest.approx(number, rel=1e-2), (shape, name)


@pytest.mark.parametrize("rule", RULES)
def test_features_on_a_gpu_give_the_sae_of_those_on_the_cpu(rule, tiny_store):
    """Quotas and statistics are on the GPU, tracked thresholds on the CPU; no operation mixes them."""
    mesh = build_mesh(MeshConfig(), 1, "cpu")
    _, expected, gap = _finish(mesh, tiny_store, rule)
    with pretended_cuda():
        shard, sae, found = _finish(mesh, tiny_store, rule, CUDA)
        assert shard.W_enc.device == CUDA
    assert found == gap
    for name, tensor in expected.state_dict().items():
        assert torch.equal(sae.state_dict()[name], tensor), name


def test_facts_of_the_run_are_in_the_config_of_the_sae(tiny_store):
    _, sae, _ = _finish(build_mesh(MeshConfig(), 1, "cpu"), tiny_store, "mutual_choice")
    assert (sae.cfg.hook_name, sae.cfg.hook_layer) == (HOOK, 0)
    assert sae.cfg.allocation == "mutual_choice"
    assert sae.cfg.tokens_seen == STEPS * 128
