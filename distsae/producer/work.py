"""The work of one producer: which unit next, and the steps from its claim to its commit."""

from __future__ import annotations

import time
from functools import partial

from distsae.producer.contexts import Contexts
from distsae.producer.crew import Place, unit_queue
from distsae.producer.job_progress import JobProgress
from distsae.producer.language_model import LanguageModel
from distsae.producer.stopping import Stop
from distsae.producer.unit import compute_unit
from distsae.producer.unit_writer import UnitWriter
from distsae.store import Claims, StoreAttributes, StorePaths, committed_units, unit_contexts
from distsae.store.location import Location

__all__ = ["produce_units"]

_POLL = 0.3  # seconds between looks at what others have committed, when there is nothing to start


def produce_units(
    root: Location,
    attributes: StoreAttributes,
    contexts: Contexts,
    language_model: LanguageModel,
    claims: Claims,
    place: Place,
    stop: Stop,
) -> None:
    """Returns when every unit is committed, by us or by others.

    While one unit is computed, the one before it is written and committed. Whatever ends the work early ends it after
    a forward pass: the unit that is being computed is given up, the one that is being written is still committed.

    Raises:
        CannotContinue: activations that cannot be stored, or a full disk.
        SystemExit: SIGTERM has come.
        KeyboardInterrupt: SIGINT has come.
    """
    paths, units = StorePaths(root), unit_contexts(attributes)
    queue = unit_queue(place, len(units))

    with (
        JobProgress(root, [len(ids) * attributes.rows_per_context for ids in units]) as progress,
        stop.deferred(),
        UnitWriter(root, attributes, claims) as writer,
    ):

        def after_forward(unit: int, rows: int) -> None:
            stop.check()
            writer.check()
            progress.computed(unit, rows)

        while len(committed_units(root, len(units))) < len(units):
            started = False
            for unit in queue:
                stop.check()
                name = paths.unit_name(unit)
                if paths.commit(unit).exists() or not claims.take(name):
                    continue
                if paths.commit(unit).exists():  # committed just before we claimed it
                    claims.release(name)
                    continue
                started = True
                # No name for the data: the writer alone keeps it, so that its memory is free once it is committed.
                writer.put(
                    unit,
                    compute_unit(language_model, attributes, contexts, unit, units[unit], partial(after_forward, unit)),
                )
            writer.wait()
            progress.refresh()
            if not started:
                time.sleep(_POLL)
