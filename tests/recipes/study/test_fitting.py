"""Members are side by side only if memory is enough for all of them."""

import pytest

from distsae.planning import memory_items, peak
from distsae.recipes.study.fitting import Fitting
from distsae.recipes.study.jobs import sweep_over
from distsae.training.sweep import members
from tests.recipes.study.samples import TC, plan


def test_the_limit_is_the_planned_peak(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[TC])
    cell = found.cells[0]
    one, three = (sweep_over(found.bases["TC"], cell.trials[:number]) for number in (1, 3))
    measuring = Fitting(found.store, 1.0)
    facts = measuring._facts_of(three)
    sizes = [peak(memory_items(list(members(config).values()), facts)) for config in (one, three)]
    assert sizes[0] < sizes[1]
    between = Fitting(found.store, sum(sizes) / 2 / 2**30)
    between._facts = measuring._facts  # the same process, measured once
    assert (between(one), between(three)) == (True, False)


def test_by_default_a_part_of_the_free_memory_may_be_taken(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[TC])
    small = sweep_over(found.bases["TC"], found.cells[0].trials)
    assert Fitting(found.store, None)(small)
    huge = sweep_over(found.bases["TC"], plan(tiny_store, tmp_path / "o", grid={"d_sae": [1 << 30]}).cells[0].trials)
    assert not Fitting(found.store, None)(huge)


@pytest.mark.parametrize("gb", [1e-3, 1e3])
def test_memory_may_be_given(tiny_store, tmp_path, gb):
    found = plan(tiny_store, tmp_path / "o", methods=[TC])
    assert Fitting(found.store, gb)(sweep_over(found.bases["TC"], found.cells[0].trials)) == (gb > 1)
