import mmap

import pytest

from distsae.store.buffers import page_aligned, room_for, same_place


@pytest.mark.parametrize("size", [1, 4096, 4_194_308, 12_582_917])
def test_begins_at_a_page(size):
    memory = [page_aligned(size) for _ in range(3)]
    assert all(len(one) == size and one.ctypes.data % mmap.PAGESIZE == 0 for one in memory)
    assert all(one.flags.writeable for one in memory)


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 1_000_000])
def test_the_same_place_within_a_page(offset):
    buffer = page_aligned(room_for(5000))
    part = same_place(buffer, offset, 5000)
    assert len(part) == 5000
    assert part.ctypes.data % mmap.PAGESIZE == offset % mmap.PAGESIZE
