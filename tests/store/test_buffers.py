import mmap

import pytest

from distsae.store.buffers import page_aligned, part_aligned_with_file, size_for_any_offset


@pytest.mark.parametrize("size", [1, 4096, 4_194_308, 12_582_917])
def test_begins_at_a_page(size):
    buffers = [page_aligned(size) for _ in range(3)]
    assert all(len(buffer) == size and buffer.ctypes.data % mmap.PAGESIZE == 0 for buffer in buffers)
    assert all(buffer.flags.writeable for buffer in buffers)


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 1_000_000])
def test_a_part_has_the_offset_within_a_page_that_its_data_have_in_the_file(offset):
    buffer = page_aligned(size_for_any_offset(5000))
    part = part_aligned_with_file(buffer, offset, 5000)
    assert len(part) == 5000
    assert part.ctypes.data % mmap.PAGESIZE == offset % mmap.PAGESIZE
