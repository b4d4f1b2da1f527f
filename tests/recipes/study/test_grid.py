"""Grids become cells and members."""

import pytest

from distsae.errors import WrongInput
from distsae.recipes.study import GridConfig
from distsae.recipes.study.grid import GridCell, cells_of
from distsae.recipes.study.methods import Method

A, B = Method(name="a"), Method(name="b", lr=(1.0,))


def test_every_combination_is_a_cell_ordered_by_method_width_and_k():
    cells = cells_of([B, A], [GridConfig(k=(8, 4), d_sae=(64, 32), lr=(0.1, 0.2), seed=(5, 6))])
    assert [(cell.method.name, cell.d_sae, cell.k) for cell in cells] == [
        (name, d_sae, k) for name in "ba" for d_sae in (32, 64) for k in (4, 8)
    ]
    assert cells[0].rates == (1.0,)  # its own
    assert cells[-1].rates == (0.1, 0.2)
    assert cells[-1].seeds == (5, 6)


def test_a_cell_has_trials_at_the_first_seed_and_repeats_at_one_rate():
    (cell,) = cells_of([A], [GridConfig(lr=(0.1, 0.2, 0.3), seed=(5, 6))])
    assert [(member.lr, member.seed) for member in cell.trials] == [(0.1, 5), (0.2, 5), (0.3, 5)]
    assert [(member.lr, member.seed) for member in cell.repeats(0.2)] == [(0.2, 5), (0.2, 6)]
    assert cell.size == len({member.path for member in (*cell.trials, *cell.repeats(0.2))}) == 4


def test_a_cell_of_several_grids_has_the_rates_and_seeds_of_all():
    grids = [GridConfig(k=(8, 32), lr=(0.1,)), GridConfig(k=(32,), lr=(0.2, 0.1), seed=(0, 1), methods=("a",))]
    cells = cells_of([A, B], grids)
    assert [(c.method.name, c.k, c.rates, c.seeds) for c in cells] == [
        ("a", 8, (0.1,), (0,)),
        ("a", 32, (0.1, 0.2), (0, 1)),
        ("b", 8, (1.0,), (0,)),
        ("b", 32, (1.0,), (0,)),
    ]


def test_grids_and_methods_must_know_each_other():
    with pytest.raises(WrongInput, match=r"`grid.methods` \(=c\)"):
        cells_of([A], [GridConfig(methods=("c",))])
    with pytest.raises(WrongInput, match="method b must be in a grid"):
        cells_of([A, B], [GridConfig(methods=("a",))])


def test_folders_of_members():
    cell = GridCell(Method(name="MC then FC"), 64, 8, ("auto", 1e-5), (3,))
    assert [member.path for member in cell.trials] == [
        "MC-then-FC/d_sae-64_k-8_lr-auto_seed-3",
        "MC-then-FC/d_sae-64_k-8_lr-1e-05_seed-3",
    ]
