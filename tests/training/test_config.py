"""The config of a run: wrong values are refused and named, and `k` falls as configured."""

import math

import pytest

from distsae.errors import WrongInput
from distsae.parallel import MeshConfig
from distsae.training import AuxiliaryConfig, CheckpointConfig, OptimizerConfig, SizeConfig, TrainConfig


def _train(**changes):
    return TrainConfig(store="store", out="run", **changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SizeConfig(d_sae=0), r"`sae.d_sae` \(=0\)"),
        (lambda: SizeConfig(d_sae=8, k=9), r"`sae.k` \(=9\) must be between 1 and `sae.d_sae` \(=8\)"),
        (lambda: SizeConfig(k=0), r"`sae.k` \(=0\)"),
        (
            lambda: SizeConfig(k=8, k_start=7.5),
            r"`sae.k_start` \(=7.5\) must be between `sae.k` \(=8\) and `sae.d_sae`",
        ),
        (lambda: SizeConfig(d_sae=8, k=4, k_start=9), r"`sae.k_start` \(=9\) .* `sae.d_sae` \(=8\)"),
        (lambda: SizeConfig(k_start=64, k_anneal_share=0.0), r"`sae.k_anneal_share` \(=0.0\) must be above 0"),
        (lambda: SizeConfig(k_start=64, k_anneal_share=1.1), r"`sae.k_anneal_share` \(=1.1\)"),
        (lambda: _train(engine="deepspeed"), r"`engine` \(=deepspeed\) must have at least two processes"),
        (
            lambda: _train(engine="deepspeed", mesh=MeshConfig(feature=2), optimizer=OptimizerConfig(state="bf16")),
            r"`optimizer.state` \(=bf16\) must be fp32 with `engine` deepspeed",
        ),
        (
            lambda: _train(engine="deepspeed", mesh=MeshConfig(data=2), optimizer=OptimizerConfig(divide_moments=True)),
            r"`optimizer.divide_moments` \(=True\) must be False with `engine` deepspeed",
        ),
        (
            lambda: _train(sae=SizeConfig(k_start=64), allocation="feature_choice"),
            r"`sae.k_start` \(=64\) must be given with .* \(=0.2\) of the steps; got Feature Choice from 0 on",
        ),
        (
            lambda: _train(sae=SizeConfig(k_start=64, k_anneal_share=0.6), finetune_fc_from=0.5),
            r"`sae.k_start` \(=64\) .* \(=0.6\) of the steps; got Feature Choice from 0.5 on",
        ),
        (lambda: AuxiliaryConfig(alpha=0), r"`auxiliary.alpha` \(=0\) must be positive"),
        (lambda: AuxiliaryConfig(k_per_k=-1.0), r"`auxiliary.k_per_k` \(=-1.0\)"),
        (lambda: AuxiliaryConfig(dead_after_tokens=0), r"`auxiliary.dead_after_tokens` \(=0\)"),
        (lambda: AuxiliaryConfig(window_tokens=0), r"`auxiliary.window_tokens` \(=0\)"),
        (lambda: AuxiliaryConfig(refresh_steps=0), r"`auxiliary.refresh_steps` \(=0\)"),
        (lambda: AuxiliaryConfig(rho=1.5), r"`auxiliary.rho` \(=1.5\) must be in \(0, 1\]"),
        (lambda: CheckpointConfig(every=0), r"`checkpoint.every` \(=0\)"),
        (lambda: CheckpointConfig(keep_last=0), r"`checkpoint.keep_last` \(=0\)"),
        (lambda: CheckpointConfig(keep_every=0), r"`checkpoint.keep_every` \(=0\)"),
        (lambda: OptimizerConfig(lr=0.0), r"`optimizer.lr` \(=0.0\) must be positive, or auto"),
        (lambda: OptimizerConfig(lr=math.nan), r"`optimizer.lr` \(=nan\)"),
        (lambda: OptimizerConfig(decoder_rate=0.0), r"`optimizer.decoder_rate` \(=0.0\) must be positive; use 1"),
        (lambda: OptimizerConfig(decoder_rate=math.inf), r"`optimizer.decoder_rate` \(=inf\)"),
        (lambda: OptimizerConfig(beta1=1.0), r"`optimizer.beta1` \(=1.0\)"),
        (lambda: OptimizerConfig(beta2=-0.1), r"`optimizer.beta2` \(=-0.1\)"),
        (lambda: OptimizerConfig(eps=-1e-8), r"`optimizer.eps` \(=-1e-08\)"),
        (lambda: OptimizerConfig(warmup_share=0.6, decay_share=0.5), r"`optimizer.warmup_share` \(=0.6\) and"),
        (lambda: OptimizerConfig(warmup_share=-0.1), r"`optimizer.warmup_share` \(=-0.1\)"),
        (lambda: OptimizerConfig(final_share=1.5), r"`optimizer.final_share` \(=1.5\) must be between 0 and 1"),
        (lambda: OptimizerConfig(clip_norm=0.0), r"`optimizer.clip_norm` \(=0.0\)"),
        (lambda: MeshConfig(data=0), r"`mesh.data` \(=0\)"),
        (lambda: _train(ema_decay=1.0), r"`ema_decay` \(=1.0\) must be between 0 and 1"),
        (lambda: _train(ema_decay=0.0), r"`ema_decay` \(=0.0\)"),
        (lambda: _train(steps=0), r"`steps` \(=0\)"),
        (
            lambda: _train(evaluate_every=15),
            r"`evaluate_every` \(=15\) must be a positive multiple .*log_every.* \(=10\)",
        ),
        (lambda: _train(evaluate_every=0), r"`evaluate_every` \(=0\)"),
        (lambda: _train(hang_seconds=0), r"`hang_seconds` \(=0\) must be positive, or null for no limit"),
        (lambda: _train(hang_seconds=math.nan), r"`hang_seconds` \(=nan\)"),
        (lambda: _train(log_every=0), r"`log_every` \(=0\)"),
        (
            lambda: _train(sae=SizeConfig(d_sae=10, k=2), mesh=MeshConfig(feature=11)),
            r"`mesh.feature` \(=11\) must be at most `sae.d_sae` \(=10\)",
        ),
        (
            lambda: _train(batch_tokens=64, mesh=MeshConfig(data=3)),
            r"`batch_tokens` \(=64\) must be divisible by `mesh.data` \(=3\)",
        ),
        (lambda: _train(selection_mb=0), r"`selection_mb` \(=0\) must be at least 2, enough for .* the 4096 tokens"),
        (
            lambda: _train(batch_tokens=1 << 20, mesh=MeshConfig(data=2), selection_mb=128),
            r"`selection_mb` \(=128\) must be at least 192, .* 524288 tokens of a data rank; use auto, or give more",
        ),
        (
            lambda: _train(quota_refresh=0, allocation="feature_choice"),
            r"`quota_refresh` \(=0\) must be at least 1",
        ),
        (
            lambda: _train(quota_refresh=5),
            r"`quota_refresh` \(=5\) must be given with `quotas` measured or zipf, and Feature Choice",
        ),
        (
            lambda: _train(quota_refresh=5, allocation="feature_choice", quotas="uniform"),
            r"`quota_refresh` \(=5\) must be given with .*; got uniform",
        ),
        (lambda: _train(finetune_fc_from=1.0), r"`finetune_fc_from` \(=1.0\) must be between 0 and 1"),
        (
            lambda: _train(finetune_fc_from=0.5, allocation="feature_choice"),
            r"`finetune_fc_from` \(=0.5\) must be given with `allocation` mutual_choice; got feature_choice",
        ),
        (lambda: _train(zipf_s=-0.5), r"`zipf_s` \(=-0.5\)"),
        (lambda: _train(zipf_q=-1.0), r"`zipf_q` \(=-1.0\)"),
    ],
)
def test_wrong_values_are_named(make, message):
    with pytest.raises(WrongInput, match=message):
        make()


def test_defaults_fit_together():
    config = _train()
    assert config.sae.k <= config.sae.d_sae
    assert config.batch_tokens % 64 == 0


def test_k_falls_linearly():
    size = SizeConfig(k=4, k_start=16, k_anneal_share=0.5)
    assert [size.k_at(step, 10) for step in range(10)] == [16, 13, 10, 7, 4, 4, 4, 4, 4, 4]
    assert [SizeConfig(k=4, k_start=9, k_anneal_share=1).k_at(step, 3) for step in range(3)] == [9, 6.5, 4]
    assert [SizeConfig(k=4, k_start=9).k_at(step, 1) for step in range(2)] == [4, 4]  # too few steps to fall in
    assert [SizeConfig(k=4).k_at(step, 10) for step in (0, 9)] == [4, 4]
    _train(sae=SizeConfig(k_start=64, k_anneal_share=0.5), finetune_fc_from=0.5)  # falls until Feature Choice starts
