"""Times are work over rates; the counted figures in them are those that the pretended device counts."""

from dataclasses import replace

import pytest

from distsae.parallel import MeshConfig
from distsae.planning.cluster.computed_seconds import (
    computed_seconds,
    meanwhile,
    update_seconds,
)
from distsae.planning.cluster.hardware import HARDWARE
from distsae.planning.links import Links
from distsae.planning.step_shape import shape_of, work
from distsae.training import OptimizerConfig
from tests.planning.samples import GPU, run

H100 = HARDWARE["h100"]
LINKS = Links(inside=H100.inside, between=H100.between, node_size=8, protocols=H100.protocols)


def _seconds(config, hardware=H100):
    return computed_seconds(config, GPU, hardware, LINKS)


def test_parts_are_work_over_rates():
    config = run(1 << 16, aux="none")
    done = work(shape_of(config, GPU.d_in))
    parts = _seconds(config).parts
    product = 2 * done["product"] / H100.products + 0.77 * done["scores"] / H100.bandwidth
    assert parts["selection"] == pytest.approx(product)
    assert parts["update"] == pytest.approx((28.1 * done["weights"] + 4 * done["summed"]) / H100.bandwidth)
    assert set(parts) == {"selection", "matched rows", "update"}
    assert _seconds(replace(config, aux="aux_k")).parts["selection"] > product  # the matrix of upper bounds is back
    small = replace(config, optimizer=OptimizerConfig(state="int8"))
    assert _seconds(small).parts["update"] < parts["update"]


def test_deepspeed_updates_a_share_and_handles_whole_gradients():
    config = run(1 << 16, mesh=MeshConfig(data=4), engine="deepspeed")
    shape = shape_of(config, GPU.d_in)
    weights, _ = update_seconds(shape, config, H100)
    assert weights == pytest.approx(work(shape)["weights"] * (28.1 / 4 + 24) / H100.bandwidth)
    assert "exchange: updated rows" in _seconds(config).parts


def test_a_machine_reads_the_rows_of_its_data_ranks_once():
    def reading(data, feature):
        shape = shape_of(run(mesh=MeshConfig(data=data, feature=feature)), GPU.d_in)
        return meanwhile(shape, 2, H100)["reading"]

    batch = 4096 * GPU.d_in * 2
    assert reading(1, 8) == pytest.approx(batch / H100.reading)
    assert reading(8, 1) == pytest.approx(max(batch / 8 / H100.reading, batch / H100.disk))
    assert reading(8, 8) == pytest.approx(batch / 8 / H100.reading)
    assert meanwhile(shape_of(run(), GPU.d_in), 2, HARDWARE["cpu"]).keys() == {"reading"}


def test_small_steps_wait_for_launches():
    assert _seconds(run(64)).bottleneck == "launching kernels"
    assert (
        "launching kernels" not in computed_seconds(run(64), replace(GPU, gpu=False), HARDWARE["cpu"], LINKS).meanwhile
    )
