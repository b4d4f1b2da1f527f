"""The memory that is planned as kept equals what the parts of a run really hold."""

from dataclasses import replace

import pytest
import torch

from distsae.checkpoint import Shard
from distsae.losses import FiringStatistics, Underused
from distsae.model import FeatureShard
from distsae.parallel import Mesh, MeshConfig, build_mesh
from distsae.planning import memory_items
from distsae.planning.memory import kept_items
from distsae.training import OptimizerConfig, PlainEngine
from distsae.training.engines.weight_average import WeightAverage
from distsae.training.thresholds import ThresholdTracker
from tests.planning.samples import FACTS, GPU, run

SOLO: Mesh = build_mesh(MeshConfig(), 1, "cpu")


def _sizes(config, facts=FACTS):
    return {item.name: item.bytes for item in kept_items(config, facts)}


def _bytes(tensors):
    return sum(tensor.nbytes for tensor in tensors)


@pytest.fixture(scope="module")
def shard():
    shard = FeatureShard(FACTS.d_in, 4096, range(4096), torch.zeros(FACTS.d_in), 0, prefilter=True)
    shard.encode_chunks(torch.zeros(1, FACTS.d_in))
    return shard


def test_parameters_and_the_prefilter(shard):
    sizes = _sizes(run())
    assert sizes["encoder and decoder rows"] + sizes["biases"] == _bytes(shard.parameters())
    assert sizes["the prefilter's bf16 copy of the encoder"] == shard._low_precision().rows.nbytes


@pytest.mark.parametrize("state", ["fp32", "bf16", "int8"])
def test_moments(shard, state):
    real = _bytes(PlainEngine(shard, SOLO, OptimizerConfig(state=state)).tensors().values())
    noise = 0 if state == "fp32" else 48 * 4096
    assert _sizes(run(optimizer=OptimizerConfig(state=state)))[f"Adam's moments, {state}"] == pytest.approx(
        real + noise, abs=64
    )


@pytest.mark.parametrize("state", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_moments_that_are_divided(state, ranks):
    """Of rows that have several blocks."""
    config, d_in = OptimizerConfig(state=state, divide_moments=True), 768
    shard = FeatureShard(d_in, 4096, range(4096), torch.zeros(d_in), 0)
    sizes = _sizes(run(optimizer=config, mesh=MeshConfig(data=ranks)), replace(FACTS, d_in=d_in))
    real, rows = 0, []
    for rank in range(ranks):
        engine = PlainEngine(shard, replace(SOLO, data=_OneOf(rank, ranks)), config)
        held = [value.local if isinstance(value, Shard) else value for value in engine.tensors().values()]
        rows.append(engine.tensors()["adam.exp_avg.W_enc"].local.shape[0])
        real = max(real, _bytes(held))
    assert sum(rows) == 4096
    assert rows[0] < 4096
    noise = 0 if state == "fp32" else 48 * rows[0]
    planned = sizes[f"Adam's moments, {state}, divided over {ranks} data ranks"]
    assert planned == pytest.approx(real + noise, abs=64)


class _OneOf:
    """One of several data ranks that exchange nothing."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


def test_statistics_average_and_thresholds(shard):
    sizes = _sizes(run(ema_decay=0.9))
    statistics = FiringStatistics(4096, 1, 1)
    real = (
        _bytes(statistics.tensors().values()) + 8 * 4096 + Underused.none(4096).members.nbytes
    )  # with the last counts
    assert sizes["firing statistics, quotas"] == pytest.approx(real, abs=64)
    average = _bytes(WeightAverage(shard, 0.9).tensors().values())
    assert sizes["running average of the weights"] == pytest.approx(average, abs=4 * FACTS.d_in)
    assert sizes["thresholds"] == _bytes(ThresholdTracker(4096).tensors().values())


def test_deepspeed_shards_over_the_data_axis_and_offloads():
    from distsae.training.engines.deepspeed_config import DeepSpeedConfig

    mesh = MeshConfig(data=4)
    alone, offloaded = (
        {item.name: item for item in kept_items(run(mesh=mesh, engine="deepspeed", deepspeed=zero), GPU)}
        for zero in (DeepSpeedConfig(), DeepSpeedConfig(offload_optimizer="cpu"))
    )
    name = "Adam's moments, this rank's part"
    assert alone[name].bytes == pytest.approx(2 * 2 * 4 * 4096 * FACTS.d_in / 4, rel=0.03)
    assert (alone[name].where, offloaded[name].where) == ("device", "host")


def test_the_first_rank_has_the_most_features():
    assert _sizes(run(4097, mesh=MeshConfig(feature=4)))["thresholds"] == 16 * 1025


def test_members_of_a_sweep_keep_their_state_and_work_by_turns():
    one, two = ({i.name: i.bytes for i in memory_items([run()] * n, FACTS)} for n in (1, 2))
    grown = {name for name in one if two[name] == 2 * one[name]}
    assert {"encoder and decoder rows", "Adam's moments, fp32", "thresholds"} <= grown
    assert {name for name in one if two[name] != one[name]} == grown
    assert "Python, torch and libraries, measured now" not in grown


def test_batches_wait_on_a_gpu_and_rows_in_page_locked_memory():
    config = run(mesh=MeshConfig(data=2))
    on_gpu = {item.name: item for item in memory_items([config], GPU)}
    ring = on_gpu["batches: in use, ready, being made"]
    rows = config.batch_tokens // 2
    assert ring.bytes == rows * FACTS.d_in * (5 * 4 + FACTS.storage_bytes)
    assert ring.where == "device"
    assert on_gpu["reader: rows read ahead, page-locked"].bytes == FACTS.reader_bytes
    on_cpu = {item.name for item in memory_items([config], FACTS)}
    assert "reader: rows read ahead, batches" in on_cpu
    assert ring.name not in on_cpu
