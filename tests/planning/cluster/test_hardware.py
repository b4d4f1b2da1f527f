"""The table has every device that can be named, in the order of its data sheets."""

from typing import get_args

from distsae.planning.cluster.hardware import HARDWARE, HardwareName


def test_every_name_has_its_row():
    assert tuple(HARDWARE) == get_args(HardwareName)
    for name, row in HARDWARE.items():
        assert row.name == name
        assert row.gpu == (name != "cpu")
        assert row.launch > 0 or not row.gpu


def test_the_order_of_the_data_sheets_is_kept():
    h200, h100, a100, l40s, cpu = HARDWARE.values()
    assert h200.bandwidth > h100.bandwidth > a100.bandwidth > l40s.bandwidth > cpu.bandwidth
    assert h200.products == h100.products > l40s.products > a100.products > cpu.products
    assert h200.memory_bytes > h100.memory_bytes == a100.memory_bytes > l40s.memory_bytes
    assert h100.inside > a100.inside > l40s.inside
    for row in HARDWARE.values():
        assert row.between <= row.inside or row is l40s
        assert row.exact_products < row.products
