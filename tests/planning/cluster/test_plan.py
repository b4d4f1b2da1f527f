"""A plan has the memory of a dry run, and more ranks never need more memory each."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from distsae.parallel import MeshConfig
from distsae.planning import facts_of, memory_items, peak
from distsae.planning.cluster import cluster_plan
from distsae.planning.cluster.hardware import HARDWARE
from distsae.planning.cluster.inputs import inputs_of
from distsae.planning.cluster.plan import facts_on, train_config
from distsae.planning.exchanges import exchanges
from distsae.store import Store
from tests.planning.cluster.samples import check_file, plan, plan_config


@pytest.mark.parametrize("hardware", ["cpu", "h100"])
@pytest.mark.parametrize("data", [1, 2, 4])
@pytest.mark.parametrize(
    "changes",
    [{}, {"aux": "none"}, {"allocation": "feature_choice"}, {"engine": "deepspeed"}, {"optimizer_state": "int8"}],
)
def test_the_memory_is_that_of_a_dry_run(tiny_store, hardware, data, changes):
    """All items but what this process itself takes, which is measured anew by each."""
    config = plan_config(
        d_in=None,
        store=str(tiny_store),
        hook="blocks.0.resid_post",
        d_sae=4096,
        batch_tokens=256,
        gpus=4,
        hardware=hardware,
        **changes,
    )
    run = train_config(config, MeshConfig(data=data, feature=4 // data))
    run = replace(run, hook=config.hook)
    dry = facts_of(Store.open(str(tiny_store)), run, gpu=hardware != "cpu")
    planned = facts_on(run, inputs_of(config), HARDWARE[hardware], dry.process_bytes)
    assert planned == dry
    assert memory_items([run], planned) == memory_items([run], dry)


@settings(max_examples=40)
@given(
    d_sae=some.integers(1 << 12, 1 << 25),
    k=some.integers(1, 128),
    data=some.sampled_from([1, 2, 4, 8, 16]),
    feature=some.sampled_from([1, 2, 4, 8, 64]),
    axis=some.sampled_from(["data", "feature"]),
    engine=some.sampled_from(["plain", "deepspeed"]),
    allocation=some.sampled_from(["token_choice", "mutual_choice", "feature_choice"]),
    hardware=some.sampled_from(["h100", "cpu"]),
)
def test_a_larger_mesh_never_needs_more_memory_a_rank(d_sae, k, data, feature, axis, engine, allocation, hardware):
    """Buffers of NCCL are left out: one process has none. Nor has it DeepSpeed's copies."""
    if engine == "deepspeed" and data * feature == 1:
        engine = "plain"
    config = plan_config(d_sae=d_sae, k=k, engine=engine, allocation=allocation, hardware=hardware, tokens=10**8)
    inputs = inputs_of(config)

    def needs(mesh):
        run = train_config(config, mesh)
        items = memory_items([run], facts_on(run, inputs, HARDWARE[hardware], 0))
        kept = [item for item in items if not item.name.startswith("NCCL")]
        return peak(kept, "device" if hardware == "h100" else "host")

    small = MeshConfig(data=data, feature=feature)
    large = replace(small, **{axis: 2 * getattr(small, axis)})
    assert needs(large) <= needs(small)


def test_time_and_cost_follow_from_the_step():
    found = plan(gpus=16, tokens=65_536 * 1000, epochs=2.0)
    assert found.steps == 2000
    assert found.machines == 2
    assert found.days == pytest.approx(2000 * found.chosen.step.whole / 86_400)
    assert found.gpu_hours == pytest.approx(16 * 24 * found.days)
    assert found.chosen.received == sum(exchange.received for exchange in exchanges(found.chosen.shape))
    assert found.largest > 1 << 20
    assert found.producers is None
    assert plan(producer_tokens_per_second=1000.0).producers == pytest.approx(
        found.chosen.step.tokens_per_second / 2 / 1000, rel=0.2
    )


def test_a_check_replaces_the_rates(tmp_path):
    path = check_file(tmp_path)
    found = plan(d_in=768, d_sae=1 << 16, gpus=2, batch_tokens=4096, check=path, aux="none")
    assert found.hardware.name == "cpu"
    assert found.chosen.step.measured_at in (1 << 14, 1 << 17)
    assert found.unmeasured == ()
    assert plan(d_in=768, d_sae=1 << 16, gpus=2, check=path, optimizer_state="int8").unmeasured
    slow = plan(d_in=768, d_sae=1 << 16, gpus=2, batch_tokens=4096, check=path, disk_gb_per_second=1e-4)
    assert slow.chosen.step.bottleneck == "reading"


def test_a_quota_is_compared(tmp_path):
    assert not plan().over_quota
    found = cluster_plan(plan_config(max_inodes=100_000))
    assert found.over_quota
    assert found.store_advice is not None


def test_data_ranks_divide_the_update_where_the_memory_needs_it():
    wide = plan(d_sae=1 << 23, gpus=32, data=4)
    assert wide.chosen.fits
    assert wide.chosen.shape.divide_moments
    assert not plan(d_sae=1 << 23, gpus=32, data=4, divide_moments=False).chosen.fits
    fast = plan(gpus=64, data=2)
    assert not fast.chosen.shape.divide_moments
    assert fast.chosen.step.whole < plan(gpus=64, data=2, divide_moments=True).chosen.step.whole
