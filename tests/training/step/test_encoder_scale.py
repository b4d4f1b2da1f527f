"""The scale of the initial encoder is the least-squares one of the rows that are not left out, on every mesh."""

from __future__ import annotations

import pytest
import torch

from distsae.parallel import Mesh, MeshConfig, build_mesh
from distsae.training.step import NONE_LEFT_OUT, fitted_encoder_scale, left_out_of
from tests.distributed.processes import run_on_mesh
from tests.training.dense_step import dense_step
from tests.training.left_out_rows import SHAPES, share_of
from tests.training.samples import D_IN, D_SAE, RULES, TOKENS, activations, credit, selector_on, shard_on


def _fitted(mesh: Mesh, rule: str) -> float:
    x, rows, _ = share_of(mesh)
    features = mesh.features(D_SAE)
    quotas = credit()
    quotas.quota_per_token = quotas.quota_per_token[features.start : features.stop]
    quotas.credit = quotas.credit[features.start : features.stop]
    quotas._feature = mesh.feature
    parts = [(x, left_out_of([rows], mesh)[0])]
    return fitted_encoder_scale(shard_on(mesh), parts, mesh, selector_on(mesh, rule), quotas)


@pytest.mark.parametrize("rule", RULES)
def test_the_scale_of_the_encoder_is_the_least_squares_one_of_the_other_rows_on_every_mesh(rule):
    alone = build_mesh(MeshConfig(), 1, "cpu")
    shard = shard_on(alone)
    x = activations(0)
    found = dense_step(shard, x, rule).matches
    with torch.no_grad():
        centred = x - shard.b_dec
        x_hat = (centred @ shard.W_enc.T * (found.dense(TOKENS, D_SAE) > 0)) @ shard.W_dec
        best = float((x_hat * centred).sum() / x_hat.square().sum())
        errors = [(scale * x_hat - centred).square().sum() for scale in (best, 0.98 * best, 1.02 * best)]
    assert errors[0] < min(errors[1:])
    assert 0.1 < best < 1
    for shape in SHAPES:
        assert {*run_on_mesh(_fitted, shape, rule)} == {float(f"{best:.4g}")}, shape


def test_rows_without_any_match_leave_the_encoder_as_it_is():
    mesh = build_mesh(MeshConfig(), 1, "cpu")
    shard = shard_on(mesh)
    x = shard.b_dec.detach().expand(8, D_IN)
    assert fitted_encoder_scale(shard, [(x, NONE_LEFT_OUT)], mesh, selector_on(mesh, "mutual_choice")) == 1.0
