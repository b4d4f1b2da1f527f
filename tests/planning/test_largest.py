"""The largest SAE fits, and one feature more does not."""

from dataclasses import replace

from distsae.parallel import MeshConfig
from distsae.planning import Memory, largest_d_sae, memory_items
from distsae.planning.largest import fits
from distsae.training import SizeConfig
from tests.planning.samples import FACTS, GPU, run

AVAILABLE = Memory(host=4 << 30, processes=1)


def _with(config, d_sae):
    return replace(config, sae=replace(config.sae, d_sae=d_sae))


def test_the_answer_fits_and_one_more_does_not():
    found = largest_d_sae([run()], FACTS, AVAILABLE)
    assert found > 10_000
    assert fits(memory_items([_with(run(), found)], FACTS), AVAILABLE)
    assert not fits(memory_items([_with(run(), found + 1)], FACTS), AVAILABLE)


def test_processes_of_one_machine_share_its_memory():
    split = run(mesh=MeshConfig(feature=2))
    shared = largest_d_sae([split], FACTS, Memory(4 << 30, 2))
    assert shared < largest_d_sae([run()], FACTS, AVAILABLE)  # two processes have two of everything else
    assert largest_d_sae([split], FACTS, Memory(8 << 30, 2)) > shared


def test_the_gpu_decides_where_there_is_one():
    small, large = (largest_d_sae([run()], GPU, Memory(1 << 40, 1, size << 30)) for size in (8, 16))
    assert small < large
    assert largest_d_sae([run()], GPU, Memory(1 << 30, 1, 16 << 30)) < large  # the main process puts the SAE together


def test_nothing_fits_into_nothing():
    assert largest_d_sae([run(sae=SizeConfig(d_sae=64, k=4))], FACTS, Memory(1 << 20, 1)) == 0
