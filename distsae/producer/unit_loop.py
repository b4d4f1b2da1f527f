"""The work of one producer: which unit next, and the steps from its claim to its commit."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from distsae.language_model.loading import LanguageModel
from distsae.producer.idle import Idle
from distsae.producer.job_progress import JobProgress
from distsae.producer.producer_rank import ProducerRank, unit_queue
from distsae.producer.stopping import Stop
from distsae.producer.unit import compute_unit
from distsae.producer.unit_writer import UnitWriter
from distsae.store import (
    Claims,
    StoreAttributes,
    StorePaths,
    remove_released,
    seal_early,
    unit_contexts,
    units_done,
    units_to_seal,
    units_wanted,
)
from distsae.store.location import Location
from distsae.text.contexts import Contexts

__all__ = ["produce_units"]

_POLL, _POLL_OBJECTS = 0.3, 3.0  # seconds between looks at what others do, when there is nothing to start


def produce_units(
    root: Location,
    attributes: StoreAttributes,
    contexts: Contexts,
    language_model: LanguageModel,
    claims: Claims,
    place: ProducerRank,
    stop: Stop,
) -> None:
    """Returns when every unit is committed, by us or by others.

    Of a bounded store only the units that there is room for are wanted; the others wait for its reader.

    While one unit is computed, the one before it is written and committed. Whatever ends the work early ends it after
    a forward pass: the unit that is being computed is given up, the one that is being written is still committed.

    Raises:
        CannotContinue: activations that cannot be stored, or a full disk.
        SystemExit: SIGTERM has come.
        KeyboardInterrupt: SIGINT has come.
    """
    paths, units = StorePaths(root), unit_contexts(attributes)
    first = set(units_to_seal(attributes))  # of a bounded store: what its reader needs to begin
    queue = sorted(unit_queue(place, len(units)), key=lambda unit: unit not in first)
    idle = Idle(root, attributes)
    rows = [len(ids) * attributes.rows_per_context for ids in units]

    with (
        JobProgress(partial(units_done, root, attributes), rows) as progress,
        stop.deferred(),
        UnitWriter(root, attributes, claims) as writer,
    ):

        def after_forward(unit: int, rows: int) -> None:
            stop.check()
            writer.check()
            progress.computed(unit, rows)

        while len(done := units_done(root, attributes)) < len(units):
            seal_early(root, attributes)  # whoever committed the last unit that it takes may have died there
            started, wanted = False, units_wanted(root, attributes)
            for unit in (unit for unit in queue if unit in wanted):
                stop.check()
                name = paths.unit_name(unit)
                if unit in done or not claims.take(name):
                    continue
                # Committed, and perhaps even read and released, just before we claimed it.
                if paths.commit(unit).is_file() or unit not in units_wanted(root, attributes):
                    claims.release(name)
                    continue
                started = True
                # No name for the data: the writer alone keeps it, so that its memory is free once it is committed.
                writer.put(
                    unit,
                    compute_unit(language_model, attributes, contexts, unit, units[unit], partial(after_forward, unit)),
                )
                done = units_done(root, attributes)
            writer.wait()
            progress.refresh()
            if started or not wanted <= done:
                idle.over()
            else:
                idle.waits()
            if not started:
                stop.check()
                time.sleep(_POLL if isinstance(root, Path) else _POLL_OBJECTS)
    remove_released(root)  # a unit of ours, perhaps, that was committed late: read and released since another made it
