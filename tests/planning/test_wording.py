"""The table has a line for each item, its size at each moment, and the sums."""

from distsae.planning import Item
from distsae.planning.wording import gib, memory_table

ITEMS = [
    Item("one", 12 << 20, ("select", "update")),
    Item("two", 3 << 19, ("update",)),
    Item("nothing", 0, ("update",)),
    Item("elsewhere", 1 << 30, ("update",), "device"),
]


def test_a_line_an_item_and_sums_below():
    head, one, two, sums = memory_table(ITEMS, "host")
    assert head.split()[:4] == ["MiB", "start", "select", "update"]
    assert one.split() == ["one", "12", "12"]
    assert two.split() == ["two", "1.5"]
    assert sums.split() == ["total", "0.0", "12", "14", "0.0", "0.0", "0.0"]
    assert one.index("12") + 2 == head.index("select") + len("select")


def test_gib():
    assert gib(3 << 29) == "1.50 GiB"
