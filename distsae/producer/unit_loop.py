"""The loop of one producer: it chooses the next unit, claims it, computes it and hands it to the writer."""

from __future__ import annotations

import time
from functools import partial

from distsae.language_model import LanguageModel
from distsae.producer.job_progress import JobProgress
from distsae.producer.producer_rank import ProducerRank, unit_queue
from distsae.producer.stopping import Stop
from distsae.producer.unit import compute_unit
from distsae.producer.unit_writer import UnitWriter
from distsae.producer.waiting_report import WaitingReport
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
from distsae.store.location import Location, poll_seconds
from distsae.text import Contexts

__all__ = ["produce_units"]


def produce_units(
    root: Location,
    attributes: StoreAttributes,
    contexts: Contexts,
    language_model: LanguageModel,
    claims: Claims,
    producer: ProducerRank,
    stop: Stop,
) -> None:
    """Produces units until every unit is committed, by this process or another one.

    In a bounded store, a unit is produced only when there is room for it; until then it waits for the store's reader.

    While a unit is computed, the unit before it is written and committed. A signal or an error ends the work after a
    forward pass: the unit that is being computed is dropped, and the one that is being written is still committed.

    Args:
        root: the store.
        attributes: attributes of the store.
        contexts: the whole tokenised corpus.
        language_model: language model, on the device where it runs.
        claims: claims of this process.
        producer: rank of this process among the producers.
        stop: handler of the signals that ask this process to stop.

    Raises:
        CannotContinue: activations cannot be stored, or the disk is full.
        SystemExit: SIGTERM was received.
        KeyboardInterrupt: SIGINT was received.
    """
    paths = StorePaths(root)
    units = unit_contexts(attributes)
    first = set(units_to_seal(attributes))  # units that the reader of a bounded store needs before it can start
    queue = sorted(unit_queue(producer, len(units)), key=lambda unit: unit not in first)
    waiting = WaitingReport(root, attributes)
    unit_rows = [len(ids) * attributes.rows_per_context for ids in units]

    with (
        JobProgress(partial(units_done, root, attributes), unit_rows) as progress,
        stop.deferred(),
        UnitWriter(root, attributes, claims) as writer,
    ):

        def after_forward(unit: int, rows: int) -> None:
            stop.check()
            writer.check()
            progress.computed(unit, rows)

        while len(done := units_done(root, attributes)) < len(units):
            seal_early(root, attributes)  # the process whose commit made it possible may have died before it did this
            started = False
            wanted = units_wanted(root, attributes)
            for unit in (unit for unit in queue if unit in wanted):
                stop.check()
                name = paths.unit_name(unit)
                if unit in done or not claims.take(name):
                    continue
                # It may have been committed, and even read and released, just before it was claimed here.
                if paths.commit(unit).is_file() or unit not in units_wanted(root, attributes):
                    claims.release(name)
                    continue
                started = True
                # No variable refers to the data, so that its memory is free once the writer has committed it.
                writer.put(
                    unit,
                    compute_unit(language_model, attributes, contexts, unit, units[unit], partial(after_forward, unit)),
                )
                done = units_done(root, attributes)
            writer.wait()
            progress.refresh()
            if started or not wanted <= done:
                waiting.reset()
            else:
                waiting.no_room()
            if not started:
                stop.check()
                time.sleep(poll_seconds(root))
    remove_released(root)  # a unit may have been committed here after another process's copy was read and released
