"""Activations of the user's own, in memory, in files, and from iterators."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.errors import WrongInput
from distsae.store import ArrayRows, JoinedRows
from distsae.store.row_source import as_source, spooled


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
@pytest.mark.parametrize("wanted", [[2, 3, 4], [0, 2, 5], []])
def test_arrays_give_contexts_of_rows(dtype, wanted):
    array = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(dtype)
    source = ArrayRows(array)
    assert (source.contexts, source.length, source.d_in) == (6, 4, 3)
    taken = source.take(np.array(wanted, np.int64))
    assert taken.dtype == source.dtype
    np.testing.assert_array_equal(taken.numpy(), array[wanted])
    single = ArrayRows(array[:, 0])
    assert (single.contexts, single.length) == (6, 1)
    np.testing.assert_array_equal(single.take(np.array(wanted, np.int64)).numpy()[:, 0], array[wanted, 0])


def test_tensors_that_train_and_mapped_files(tmp_path):
    tensor = torch.randn(5, 3, dtype=torch.bfloat16, requires_grad=True)
    taken = ArrayRows(tensor).take(np.array([1, 4]))
    assert not taken.requires_grad
    assert torch.equal(taken[:, 0], tensor.detach()[[1, 4]])
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(4, 3))
    mapped = ArrayRows(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert mapped.take(np.array([2]))[0, 0].tolist() == [6, 7, 8]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"\[contexts, length, d_in\]; got \[3\]"),
        (np.zeros((0, 3)), r"got \[0x3\]"),
        (np.zeros((2, 3), int), "floating-point numbers; got 'int64'"),
        (np.zeros((2, 3), complex), "floating-point numbers; got 'complex128'"),
        (torch.zeros(2, 3, dtype=torch.int8), "floating-point numbers; got 'int8'"),
    ],
)
def test_other_arrays_are_refused(array, message):
    with pytest.raises(WrongInput, match=f"`activations` must .*{message}"):
        ArrayRows(array)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), data=st.data())
def test_joined_sources_are_one_array(sizes, data):
    whole = torch.randn(sum(sizes), 2, 3)
    joined = JoinedRows([ArrayRows(part) for part in whole.split(sizes)])
    wanted = sorted(data.draw(st.sets(st.integers(0, len(whole) - 1))))
    assert joined.contexts == len(whole)
    if wanted:
        assert torch.equal(joined.take(np.array(wanted)), whole[wanted])


@pytest.mark.parametrize("other", [np.zeros((2, 4), "f4"), np.zeros((2, 3), "f2"), np.zeros((2, 1, 3), "f8")])
def test_parts_that_differ_are_refused(other, tmp_path):
    first = np.zeros((2, 3), "f4")
    with pytest.raises(WrongInput, match=r"the same length, width and dtype in all parts; got 1, 3, torch\.float32 in"):
        JoinedRows([ArrayRows(first), ArrayRows(other)])
    with pytest.raises(WrongInput, match="the same length, width"), spooled(iter([first, other]), tmp_path):
        pass
    with pytest.raises(WrongInput, match="must have rows; got none"):
        JoinedRows([])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_an_iterator_is_kept_on_the_disk_while_it_is_needed(dtype, tmp_path):
    whole = torch.randn(7, 2, 3).to(dtype)
    before = _free(tmp_path)
    with as_source((part for part in whole.split(3)), tmp_path / "store") as source:
        assert source.dtype == dtype
        assert torch.equal(source.take(np.array([0, 3, 6])), whole[[0, 3, 6]])
        assert torch.equal(source.take(np.arange(7)), whole)
    del source
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert before == _free(tmp_path)


def _free(folder: Path) -> list[str]:
    """Returns the files of this process that are open in `folder` without a name."""
    opened = [link for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link)]
    return [str(link.readlink()) for link in opened if os.path.lexists(link) and str(folder) in str(link.readlink())]


def test_an_iterator_that_gives_nothing(tmp_path):
    with pytest.raises(WrongInput, match="an iterator that gives none"), as_source(iter([]), tmp_path / "store"):
        pass
