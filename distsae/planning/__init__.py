"""Plans the memory of a run before it is started."""

from distsae.planning.dry_run import PlannedDevice, dry_run, facts_of
from distsae.planning.items import Facts, Item, peak
from distsae.planning.largest import Memory, largest_d_sae
from distsae.planning.memory import memory_items
from distsae.planning.room import require_room

__all__ = [
    "Facts",
    "Item",
    "Memory",
    "PlannedDevice",
    "dry_run",
    "facts_of",
    "largest_d_sae",
    "memory_items",
    "peak",
    "require_room",
]
