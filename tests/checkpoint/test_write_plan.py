"""A plan covers every row exactly once, or is refused."""

from __future__ import annotations

import pytest

from distsae.checkpoint.manifest import Piece
from distsae.checkpoint.state import TensorFacts
from distsae.checkpoint.write_plan import RankTensors, plan_tensors, rows_to_write
from distsae.errors import WrongInput


def _ranks(*ranges: tuple[int, int], total: int = 10, data_size: int = 1, dtype: str = "F32") -> list[RankTensors]:
    """Returns the ranks of a mesh that hold a tensor `W`, of which each feature rank has the rows of one range."""
    return [
        RankTensors(feature, data, {"W": TensorFacts(dtype, (total, 4), True, rows)})
        for data in range(data_size)
        for feature, rows in enumerate(ranges)
    ]


def test_pieces_are_in_row_order_and_empty_ones_are_left_out() -> None:
    record = plan_tensors(_ranks((7, 10), (3, 3), (0, 7)), 3, 1)["W"]
    assert record.pieces == (
        Piece("feature-00002-of-00003.safetensors", 0, 7),
        Piece("feature-00000-of-00003.safetensors", 7, 10),
    )


def test_data_ranks_share_the_rows_of_a_feature_rank() -> None:
    record = plan_tensors(_ranks((0, 9), (9, 10), data_size=2), 2, 2)["W"]
    assert record.pieces == (
        Piece("feature-00000-of-00002.data-00000-of-00002.safetensors", 0, 4),
        Piece("feature-00000-of-00002.data-00001-of-00002.safetensors", 4, 9),
        Piece("feature-00001-of-00002.data-00001-of-00002.safetensors", 9, 10),
    )
    for rows in ((0, 0), (3, 4), (5, 16)):
        for data_size in (1, 2, 3, 7):
            parts = [rows_to_write(rows, data, data_size) for data in range(data_size)]
            assert [row for part in parts for row in range(*part)] == list(range(*rows))


@pytest.mark.parametrize("ranges", [((0, 4), (5, 10)), ((0, 6), (5, 10)), ((0, 5), (5, 9)), ((0, 10), (0, 10)), ()])
def test_gaps_and_overlaps_are_refused(ranges: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(WrongInput, match="`W` must have each of its 10 rows on one feature rank"):
        plan_tensors(_ranks(*(ranges or ((0, 0),))), 2, 1)


def _divided(*ranges: tuple[int, int]) -> list[RankTensors]:
    """Returns the ranks of a mesh with two feature ranks, each with rows of its own; feature ranks are neighbours."""
    return [
        RankTensors(number % 2, number // 2, {"W": TensorFacts("F32", (10, 4), True, rows, divided=True)})
        for number, rows in enumerate(ranges)
    ]


def test_each_rank_writes_its_rows_of_a_divided_tensor() -> None:
    record = plan_tensors(_divided((0, 4), (6, 9), (4, 6), (9, 10)), 2, 2)["W"]
    assert record.pieces == (
        Piece("feature-00000-of-00002.data-00000-of-00002.safetensors", 0, 4),
        Piece("feature-00000-of-00002.data-00001-of-00002.safetensors", 4, 6),
        Piece("feature-00001-of-00002.data-00000-of-00002.safetensors", 6, 9),
        Piece("feature-00001-of-00002.data-00001-of-00002.safetensors", 9, 10),
    )
    assert len(plan_tensors(_divided((0, 6), (6, 10), (6, 6), (10, 10)), 2, 2)["W"].pieces) == 2


@pytest.mark.parametrize("ranges", [((0, 6), (6, 10), (0, 6), (6, 10)), ((0, 4), (6, 10), (5, 6), (10, 10))])
def test_rows_of_a_divided_tensor_on_two_ranks_or_none_are_refused(ranges: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(WrongInput, match="`W` must have each of its 10 rows on one rank"):
        plan_tensors(_divided(*ranges), 2, 2)


def test_a_tensor_that_only_some_ranks_divide_is_refused() -> None:
    with pytest.raises(WrongInput, match=r"got F32 \[10, 4\] sharded on rank 0 and F32 \[10, 4\] divided on rank 2"):
        plan_tensors([*_ranks((0, 5), (5, 10)), *_divided((0, 5), (5, 10))], 2, 2)


def test_data_ranks_must_agree() -> None:
    ranks = [*_ranks((0, 5), (5, 10)), *_ranks((0, 6), (6, 10))]
    with pytest.raises(WrongInput, match=r"feature rank 0; got \(0, 5\) and, on rank 2, \(0, 6\)"):
        plan_tensors(ranks, 2, 2)


def test_a_tensor_that_one_rank_lacks_is_refused() -> None:
    with pytest.raises(WrongInput, match="`W` must be on every rank; got none on rank 1"):
        plan_tensors([*_ranks((0, 10)), RankTensors(1, 0, {})], 2, 1)


def test_a_dtype_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(WrongInput, match=r"got torch\.complex64"):
        plan_tensors(_ranks((0, 10), dtype="torch.complex64"), 1, 1)
