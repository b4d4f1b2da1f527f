"""Refuses a run that cannot fit into the memory of its machine, before the first rows of weights fill it.

A run that does not fit is ended by the system without a word, and others on the machine with it. The plan is an
estimate, so only a run that needs clearly more than the whole machine has is refused; `--dry_run` compares with what is
free.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from distsae.environment import cpu_is_asked_for, whole_number
from distsae.errors import WrongInput
from distsae.kernels import prefilter_wanted
from distsae.planning.items import Facts, MemoryKind, peak
from distsae.planning.largest import Memory, fits, largest_d_sae
from distsae.planning.machine import whole_memory
from distsae.planning.memory import memory_items
from distsae.planning.wording import gib
from distsae.store import Store
from distsae.store.layout import DTYPES
from distsae.training import TrainConfig

__all__ = ["require_room"]

_CERTAIN = 1.25
"""Times that the plan must exceed the memory."""


def require_room(store: Store, runs: Sequence[TrainConfig]) -> None:
    """Compares the plan of a run, without what Python takes, with the memory of this machine and its GPUs.

    Args:
        store: store that is read.
        runs: config of the run, or of each member of a sweep.

    Raises:
        WrongInput: there is not enough memory, whatever else is done.
    """
    first = runs[0]
    assert first.hook is not None
    device = torch.device("cuda" if torch.cuda.is_available() and not cpu_is_asked_for() else "cpu")
    facts = Facts(
        d_in=store.d_in(first.hook),
        storage_bytes=DTYPES[store.attributes.dtype].torch.itemsize,
        heldout_rows=store.heldout_rows,
        reader_bytes=0,
        process_bytes=0,
        gpu=device.type == "cuda",
        prefilter=prefilter_wanted(first.prefilter, device),
    )
    processes = whole_number("LOCAL_WORLD_SIZE", 1)
    on_gpu = torch.cuda.get_device_properties(device).total_memory if facts.gpu else None
    memory = Memory(round(_CERTAIN * whole_memory()), processes, None if on_gpu is None else round(_CERTAIN * on_gpu))
    items = memory_items(runs, facts)
    if fits(items, memory):
        return
    where: MemoryKind = "device" if facts.gpu and peak(items, "device") > (memory.device or 0) else "host"
    has = on_gpu if where == "device" and on_gpu is not None else whole_memory()
    place = "of a GPU here" if where == "device" else f"of this machine, for {processes} of its processes"
    most = largest_d_sae(runs, facts, Memory(whole_memory(), processes, on_gpu))
    raise WrongInput(
        f"`sae.d_sae` (={max(run.sae.d_sae for run in runs):,}) must fit into the memory {place}, {gib(has)}; got a "
        f"need of {gib(peak(items, where))} a process; use at most {most:,} features, or a wider `mesh.feature` "
        "(--dry_run shows the plan)"
    )
