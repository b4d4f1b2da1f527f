"""What stores and models tell, and what a user says of the hardware."""

import pytest

from distsae.errors import WrongInput
from distsae.planning.cluster.hardware import HARDWARE
from distsae.planning.cluster.inputs import hardware_of, inputs_of, links_of
from distsae.planning.measured_rates import read_rates
from tests.planning.cluster.samples import check_file, plan_config


def test_a_store_tells_its_sizes(tiny_store):
    found = inputs_of(plan_config(d_in=None, store=str(tiny_store), hook="blocks.0.resid_post"))
    assert (found.d_in, found.storage_bytes) == (32, 2)
    assert found.tokens > 8000
    assert (found.store.chunk_rows, found.store.hooks) == (256, 2)
    files = [path for path in tiny_store.glob("data/**/*") if path.is_file()]
    assert found.size.files == len(files) + len(list(tiny_store.glob("commits/*")))
    with pytest.raises(WrongInput, match="`hook` must be given for the store"):
        inputs_of(plan_config(d_in=None, store=str(tiny_store)))
    with pytest.raises(WrongInput, match="must be that of the store; got 32"):
        inputs_of(plan_config(d_in=64, store=str(tiny_store), hook="blocks.0.resid_post"))


def test_a_model_tells_its_width_and_parameters(tiny_model_dir):
    found = inputs_of(plan_config(d_in=None, model=str(tiny_model_dir)))
    assert found.d_in == 32
    assert found.parameters > 1000
    given = inputs_of(plan_config(d_in=16, model=str(tiny_model_dir), model_parameters=5.0))
    assert (given.d_in, given.parameters) == (16, 5.0)


def test_sizes_alone():
    found = inputs_of(plan_config(tokens=10**6, dtype="fp32", unit_rows=1000, chunk_rows=100))
    assert (found.tokens, found.heldout_rows, found.storage_bytes) == (10**6, 20_000, 4)
    assert (found.store.rows, found.store.unit_rows, found.store.chunk_rows) == (1_020_000, 1000, 100)
    assert found.parameters is None


def test_the_user_knows_the_hardware_better():
    found = hardware_of(
        plan_config(
            hardware="a100",
            gpus=64,
            gpus_per_node=4,
            memory_gb=40,
            host_gb=100,
            network_gb_per_second=2.0,
            disk_gb_per_second=3.0,
        ),
        None,
    )
    assert (found.name, found.node_size, found.memory_bytes, found.host_bytes) == ("a100", 4, 40 << 30, 100 << 30)
    assert (found.between, found.disk) == (2e9, 3e9)
    assert hardware_of(plan_config(), None) == HARDWARE["h100"]
    cpu = hardware_of(plan_config(hardware="cpu", memory_gb=8, gpus=4), None)
    assert (cpu.node_size, cpu.host_bytes) == (4, 32 << 30)


def test_a_check_tells_the_kind_and_the_links_inside_a_machine(tmp_path):
    rates = read_rates(check_file(tmp_path))
    found = hardware_of(plan_config(), rates)
    assert not found.gpu
    links = links_of(found, rates)
    assert links.inside == 1e9
    assert links.protocols[0].inside == pytest.approx(1e-4)
    assert links.between == found.between
    with pytest.raises(WrongInput, match=r"`hardware` \(=h100\) must be what the check measured; got the check of a"):
        hardware_of(plan_config(hardware="h100"), rates)
    none = read_rates(check_file(tmp_path, exchange=False))
    assert links_of(found, none).protocols == found.protocols
