"""The bytes at a moment of a run, on the main process and on others."""

from distsae.planning import Item, peak
from distsae.planning.items import bytes_at

ITEMS = [
    Item("always", 10, ("select", "update")),
    Item("later", 5, ("update",)),
    Item("elsewhere", 100, ("update",), "device"),
    Item("main", 1, ("select",), main_only=True),
]


def test_bytes_at_a_moment():
    assert bytes_at(ITEMS, "select", "host") == 11
    assert bytes_at(ITEMS, "select", "host", main=False) == 10
    assert bytes_at(ITEMS, "update", "device") == 100


def test_the_peak_is_that_of_the_worst_moment():
    assert peak(ITEMS) == 15
    assert peak(ITEMS, moments=("select",)) == 11
    assert peak(ITEMS, "device") == 100
